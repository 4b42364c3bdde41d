"""From a file's first look to its `ImageHeader`: every format's walk behind one function."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass

from avion_media.domain import formats
from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import MediaFormat
from avion_media.media.bounds import PictureBounds
from avion_media.media.image.boundary import rejecting_damage
from avion_media.media.image.gif import walk_gif
from avion_media.media.image.heif import walk_avif, walk_heic
from avion_media.media.image.jpeg import walk_jpeg
from avion_media.media.image.outline import Outline, Walk
from avion_media.media.image.png import walk_png
from avion_media.media.image.webp import walk_webp

ImageData = bytes | bytearray | memoryview | mmap.mmap

_WALKS: Mapping[str, Walk] = {
    formats.JPEG.name: walk_jpeg,
    formats.PNG.name: walk_png,
    formats.GIF.name: walk_gif,
    formats.WEBP.name: walk_webp,
    formats.AVIF.name: walk_avif,
    formats.HEIC.name: walk_heic,
}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture is, found without decoding it.

    ``width`` and ``height`` are in pixels as displayed (orientation applied). ``frames`` and ``duration_s`` are those
    of an animation: 1 and 0.0 for a still picture; burst and auxiliary pictures of a HEIC or MPO do not count.
    """

    width: int
    height: int
    frames: int = 1
    duration_s: float = 0.0

    @property
    def animated(self) -> bool:
        """Whether it moves."""
        return self.frames > 1


def read_outline(data: bytes, fmt: MediaFormat, bounds: PictureBounds) -> Outline:
    """Read the structure of a picture of format ``fmt`` (an image format) and check it against ``bounds``.

    Nothing is decoded; the work is linear in the file's size. Raises `Rejected`: CORRUPT when it is no such picture,
    BAD_DIMENSIONS, TOO_MANY_PIXELS, TOO_MANY_FRAMES by the bounds, UNSUPPORTED_TYPE for kinds that are not decoded.
    """
    walk = _WALKS.get(fmt.name)
    if walk is None:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"{fmt.name} is not an image format")
    if not data:
        raise Rejected(Reason.EMPTY, "no bytes")
    with rejecting_damage(f"reading the structure of {fmt.name}"):
        outline = walk(data, bounds.max_frames)
    outline.check(bounds)
    return outline


def header_of(outline: Outline) -> ImageHeader:
    """The public part of an outline."""
    width, height = outline.displayed_size
    return ImageHeader(width, height, outline.frames, outline.duration_s)
