"""The jobs that make thumbnails, and the scrubbed original of an image. They run inside the sandbox.

The fork server imports this with the first of them, so an idle replica holds no libraries of images.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from avion_media.backends.files import write_at
from avion_media.common.errors import Reason, Rejected
from avion_media.common.media import CredentialsState
from avion_media.media.scrubber import read_manifest, state_of
from mediascrub import (
    Format,
    Picture,
    PictureBounds,
    Range,
    ScrubCode,
    ScrubError,
    VideoBounds,
    labelled,
    read_picture,
    read_provenance,
)
from mediathumbs import (
    Thumbnails,
    ThumbnailSize,
    coded_pixels,
    make_poster,
    make_thumbnails,
    make_waveform,
    picture_memory_bytes,
    poster_memory_bytes,
    thumbnail_names,
    with_its_end,
)


def picture_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Make the scrubbed original of one image, and thumbnails of the scrubbed file.

    Arguments: format (name), sizes ([name, longest edge]), quality, webp, bounds, max_memory_bytes, granted_bytes
    (of memory), keep_credentials. Files: the source, the targets of the original and of the content credentials beside
    it, one file per size, and one more for each as WebP, which may stay empty. If more memory than granted may be
    needed, returns ``{"needed_bytes": …}`` and writes nothing.
    """
    source, original_file, manifest_file, *thumbnail_files = files
    bounds = PictureBounds(**arguments["bounds"])
    view = memoryview(mmap.mmap(source, 0, prot=mmap.PROT_READ))  # until the process ends
    picture = as_it_is = read_picture(view, Format(arguments["format"]), bounds)
    require_memory(picture, arguments["max_memory_bytes"])
    needed_bytes = picture_memory_bytes(picture, picture.format, len(view))
    if arguments["granted_bytes"] < min(needed_bytes, arguments["max_memory_bytes"]):
        return {"needed_bytes": needed_bytes}
    picture, options = with_its_end(picture), drawing_options(arguments)
    try:
        thumbnails = make_thumbnails(picture, **options)
    except ScrubError as error:
        # Not every decoder distinguishes lack of memory from damage.
        if error.code is ScrubCode.CORRUPT and arguments["granted_bytes"] < needed_bytes:
            raise Rejected(Reason.DECODER_LIMIT, error.detail) from error
        raise
    credentials = as_it_is.credentials
    if credentials is not None and picture is not as_it_is:
        credentials = replace(credentials, alone=False)  # the end that was missing is a change as well
    state = state_of(credentials, keep=arguments["keep_credentials"])
    manifest = read_manifest(source, credentials.manifest) if credentials is not None else b""
    provenance = read_provenance(manifest, bytes(picture.xmp))
    original = view if state is CredentialsState.IN_FILE else picture.original
    if arguments["keep_credentials"] and provenance.digital_source_type and original is picture.original:
        original = labelled(picture, provenance.digital_source_type)
    if state is CredentialsState.BESIDE_FILE:
        write_at(manifest_file, manifest, 0)
    write_at(original_file, original, 0)
    write_thumbnails(thumbnails, options["sizes"], thumbnail_files)
    width, height = picture.displayed_size
    return {
        "width": width,
        "height": height,
        "animated": picture.frames > 1,
        "duration_s": picture.duration_s,
        "blurhash": thumbnails.blurhash,
        "scrubbed_bytes": len(original),
        "sha256": hashlib.sha256(original).hexdigest(),
        "credentials": state.value,
        **asdict(provenance),
    }


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
    facts = {name: getattr(poster, name) for name in ("width", "height", "blank", "key_frame")}
    return facts | {"blurhash": poster.thumbnails.blurhash}


def sound_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Run `make_waveform` with plain values.

    Arguments: format (name), max_duration_s, and sizes, quality and webp of `picture_job`. Files: the sound, and
    thumbnails as for `picture_job`. Returns duration_s, and waveform: the peaks in hex.
    """
    source, *thumbnail_files = files
    options = drawing_options(arguments)
    made = make_waveform(source, Format(arguments["format"]), **options, max_duration_s=arguments["max_duration_s"])
    write_thumbnails(made.thumbnails, options["sizes"], thumbnail_files)
    return {"duration_s": made.duration_s, "waveform": made.peaks.hex()}


def require_memory(picture: Picture, max_memory_bytes: int) -> None:
    """Raise `Rejected` (DECODER_LIMIT) if the decoded picture alone, in RGB, exceeds the memory."""
    if picture.width * picture.height * 3 // picture.reduction**2 > max_memory_bytes:
        raise Rejected(Reason.DECODER_LIMIT, f"{picture.width}x{picture.height} decoded do not fit the memory")


def drawing_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return sizes, quality and webp of a job's arguments, as mediathumbs takes them."""
    sizes = [ThumbnailSize(name, edge) for name, edge in arguments["sizes"]]
    return {"sizes": sizes, "quality": arguments["quality"], "webp": arguments["webp"]}


def write_thumbnails(thumbnails: Thumbnails, sizes: Sequence[ThumbnailSize], files: Sequence[int]) -> None:
    """Write the thumbnails to the files of a job."""
    for name, file in zip(thumbnail_names(sizes), files, strict=True):
        write_at(file, thumbnails.by_name.get(name, b""), 0)
