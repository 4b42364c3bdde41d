"""What runs inside the sandbox: plain functions of JSON-able arguments and open files.

Everything that parses or decodes a stranger's bytes is below here, in a process that has nothing to lose.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from typing import Any

from avion_media.domain.formats import BY_NAME, HEIC
from avion_media.domain.media import ThumbnailSize
from avion_media.media.bounds import PictureBounds
from avion_media.media.image import ImageResult, NeedsMoreMemory, make_thumbnails, thumbnails_of_frame
from avion_media.media.scrub import scrub_image


def preload_for(enabled: frozenset[str]) -> tuple[str, ...]:
    """The modules that the fork server must have loaded: a confined job can import nothing any more."""
    modules = ("avion_media.media.jobs", "avion_media.media.container")
    return (*modules, "pillow_heif") if HEIC.name in enabled else modules


def image_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Thumbnails and the scrubbed original of one image.

    Arguments: format (name), sizes ([name, longest edge]), quality, bounds, granted_bytes (of memory). Files: the
    source, where the scrubbed original goes, then one file per size. Returns ``{"needed_bytes": …}``, and nothing is
    written, when more memory than granted may be needed.
    """
    source, scrubbed, *thumbnail_files = files
    fmt = BY_NAME[arguments["format"]]
    bounds = PictureBounds(**arguments["bounds"])
    with mmap.mmap(source, 0, prot=mmap.PROT_READ) as data:
        try:
            result = make_thumbnails(
                data, fmt, _sizes(arguments), bounds, arguments["quality"], granted_bytes=arguments["granted_bytes"]
            )
        except NeedsMoreMemory as more:
            return {"needed_bytes": more.needed_bytes}
        original = scrub_image(data[:], fmt)
    _write(scrubbed, original)
    _write_thumbnails(result.thumbnails, arguments, thumbnail_files)
    return _described(result) | {"size_bytes": len(original), "sha256": hashlib.sha256(original).hexdigest()}


def frame_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Thumbnails of one video frame. Arguments: width, height, sizes, quality. Files: raw RGB24, one per size."""
    frame, *thumbnail_files = files
    size = arguments["width"], arguments["height"]
    with mmap.mmap(frame, 0, prot=mmap.PROT_READ) as data:
        thumbnails, blurhash = thumbnails_of_frame(data[:], size, _sizes(arguments), quality=arguments["quality"])
    _write_thumbnails(thumbnails, arguments, thumbnail_files)
    return {"blurhash": blurhash}


def _sizes(arguments: dict[str, Any]) -> list[ThumbnailSize]:
    return [ThumbnailSize(name, edge) for name, edge in arguments["sizes"]]


def _described(result: ImageResult) -> dict[str, Any]:
    header = result.header
    return {
        "width": header.width,
        "height": header.height,
        "animated": header.frames > 1,
        "duration_s": header.duration_s,
        "blurhash": result.blurhash,
    }


def _write_thumbnails(thumbnails: dict[str, bytes], arguments: dict[str, Any], files: list[int]) -> None:
    for (name, _edge), file in zip(arguments["sizes"], files, strict=True):
        _write(file, thumbnails[name])


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
