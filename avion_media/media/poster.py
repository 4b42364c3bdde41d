"""The job that makes the poster of a video. It runs inside the sandbox."""

from __future__ import annotations

from typing import Any

from avion_media.media.pictures import drawing_options, write_thumbnails
from mediascrub import Format, Range, VideoBounds
from mediathumbs import poster_memory_bytes
from mediathumbs.poster import coded_pixels, make_poster


def poster_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Run `make_poster` with plain values.

    Arguments: format (name), stream (of `MoviePlan`), scan_s, key_frame (a range or None), bounds, max_memory_bytes,
    granted_bytes (of memory), and sizes, quality and webp of `picture_job`. Files: the video, and thumbnails as for
    `picture_job`. Returns the fields of `Poster`, except for its thumbnails, and blurhash; or, if more memory than
    granted may be needed, ``{"needed_bytes": …}`` and writes nothing.
    """
    source, *thumbnail_files = files
    video = source, Format(arguments["format"]), arguments["stream"]
    bounds = VideoBounds(**arguments["bounds"])
    needed_bytes = poster_memory_bytes(coded_pixels(*video, bounds))
    if arguments["granted_bytes"] < min(needed_bytes, arguments["max_memory_bytes"]):
        return {"needed_bytes": needed_bytes}
    key_frame = arguments["key_frame"] and Range(*arguments["key_frame"])
    options = drawing_options(arguments)
    poster = make_poster(*video, **options, bounds=bounds, scan_s=arguments["scan_s"], key_frame=key_frame)
    write_thumbnails(poster.thumbnails, options["sizes"], thumbnail_files)
    return {
        "width": poster.width,
        "height": poster.height,
        "blurhash": poster.thumbnails.blurhash,
        "blank": poster.blank,
        "key_frame": poster.key_frame,
    }
