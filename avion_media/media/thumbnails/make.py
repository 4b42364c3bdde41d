"""Thumbnails and BlurHash: one decode, then each size from the next larger one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image
import PIL.ImageOps  # this and the next, as the plugins of preinit(), Pillow imports as late as it can
import PIL.TiffImagePlugin
from PIL import Image

from avion_media.domain.media import ThumbnailSize, fit_within
from avion_media.media.formats import Picture
from avion_media.media.thumbnails.blurhash import blurhash
from avion_media.media.thumbnails.boundary import rejecting_damage
from avion_media.media.thumbnails.colour import is_srgb
from avion_media.media.thumbnails.decode import decode_image
from avion_media.media.thumbnails.pixels import Pixels, Size

PIL.Image.preinit()  # in a job no module can be imported any more

_BLURHASH_EDGE = 32


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """``by_size``, by the size's name: JPEG in sRGB, upright, without any metadata."""

    by_size: dict[str, bytes]
    blurhash: str


def make_thumbnails(picture: Picture, sizes: Sequence[ThumbnailSize], quality: int = 80) -> Thumbnails:
    """Thumbnails of the picture, in one or more ``sizes``.

    Aspect is kept (`fit_within` gives the dimensions), nothing is enlarged, transparency becomes white, of an animation
    the first frame is taken. ``quality`` is JPEG's, 1 to 95. Raises `Rejected`: CORRUPT or DECODER_LIMIT. Opens no
    file and no socket.
    """
    longest_edge = max(size.longest_edge for size in sizes)
    in_srgb = is_srgb(picture.colour)
    with rejecting_damage("decoding"):
        decoded = decode_image(picture, longest_edge, as_ycbcr=in_srgb)
        if decoded.size != (picture.width, picture.height):
            quality += 1  # a decode shrunk by the decoder costs 0.0015 of SSIM; this gives it back (tests/bench/images)
        pixels = decoded.scaled(fit_within(picture.width, picture.height, longest_edge))
        # Converted after the shrink: two million pixels, not fifty.
        colour = None if in_srgb and pixels.mode in ("RGB", "YCbCr") else picture.colour
        pixels = pixels.in_srgb(colour).upright(picture.orientation)
        return _render(pixels, picture.displayed_size, sizes, quality)


def thumbnails_of_frame(
    rgb: bytes | bytearray | memoryview, size: Size, sizes: Sequence[ThumbnailSize], quality: int = 80
) -> Thumbnails:
    """Thumbnails of a frame: raw RGB24 rows without padding, sRGB and upright.

    `ValueError` when ``rgb`` is not width x height x 3 bytes.
    """
    width, height = size
    if width < 1 or height < 1 or len(rgb) != width * height * 3:
        raise ValueError(f"{len(rgb)} bytes are no RGB24 frame of {width}x{height}")
    return _render(Pixels.of_pillow(Image.frombytes("RGB", size, rgb)), size, sizes, quality)


def _render(pixels: Pixels, full_size: Size, sizes: Sequence[ThumbnailSize], quality: int) -> Thumbnails:
    thumbnails: dict[str, bytes] = {}
    by_dimensions: dict[Size, bytes] = {}  # small pictures have the same thumbnail in several sizes
    for size in sorted(sizes, key=lambda size: -size.longest_edge):
        dimensions = fit_within(*full_size, size.longest_edge)
        pixels = pixels.scaled(dimensions)
        if dimensions not in by_dimensions:
            by_dimensions[dimensions] = pixels.jpeg(quality)
        thumbnails[size.name] = by_dimensions[dimensions]
    return Thumbnails({size.name: thumbnails[size.name] for size in sizes}, _blurhash(pixels))


def _blurhash(pixels: Pixels) -> str:
    width, height = pixels.size
    small = pixels.averaged(fit_within(width, height, _BLURHASH_EDGE))
    return blurhash(small, 4, 3) if width >= height else blurhash(small, 3, 4)
