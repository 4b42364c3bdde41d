"""Thumbnails and BlurHash: one decode, then each size from the next larger one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import PIL.Image
import PIL.ImageOps  # Pillow imports this, the next, and the plugins of preinit() as late as possible
import PIL.TiffImagePlugin
import PIL.WebPImagePlugin
import pyvips
from blurhash_rs import blurhash_encode
from PIL import Image

from mediascrub import Format, Picture
from mediascrub.picture import CodePoints, turned_size
from mediathumbs.colour import is_srgb
from mediathumbs.damage import judging_damage
from mediathumbs.decode import decode_image
from mediathumbs.pixels import Pixels, Size
from mediathumbs.planes import NARROWEST, Planes, in_planes
from mediathumbs.png_rows import with_an_end
from mediathumbs.results import (
    MAX_THUMBNAIL_BYTES,
    WEBP_SUFFIX,
    Thumbnails,
    ThumbnailSize,
    Webp,
    check_wanted,
    fit_within,
    thumbnail_names,
)

PIL.Image.preinit()  # because a sandboxed process can import no module

_BLURHASH_EDGE = 32
_QUALITY_STEP = 20
ThumbnailSizes = Sequence[ThumbnailSize]


def make_thumbnails(picture: Picture, sizes: ThumbnailSizes, quality: int = 80, webp: Webp = "off") -> Thumbnails:
    """Return thumbnails of the picture in ``sizes``, also as WebP if it has transparency (``alpha``), or always.

    The aspect is kept (see `fit_within`), and nothing is enlarged. Transparency becomes white in a JPEG. An animation
    is represented by its first frame. ``quality``, 1 to 95, is that of JPEG and WebP. Opens no file and no socket.

    Raises `ScrubError`: CORRUPT, TOO_MANY_PIXELS (for Pillow), UNSUPPORTED (PNG and WebP before `allow_png` and
    `allow_webp`, HEIC without pillow_heif); MemoryError; and ValueError for no sizes, or another quality.
    """
    check_wanted(picture.format, tuple(Format), sizes, quality)
    with judging_damage():
        try:
            return _thumbnails(picture, sizes, quality, webp)
        except pyvips.Error:
            if picture.format is not Format.PNG:
                raise
        return _thumbnails(with_an_end(picture), sizes, quality, webp)


def _thumbnails(picture: Picture, sizes: ThumbnailSizes, quality: int, webp: Webp) -> Thumbnails:
    longest_edge = max(size.longest_edge for size in sizes)
    in_srgb = is_srgb(picture.colour)
    decoded = decode_image(picture, longest_edge, as_ycbcr=in_srgb and _are_wide(picture.displayed_size, sizes))
    if decoded.size != (picture.width, picture.height):
        quality += 1  # a decoder that reduces the picture costs 0.0015 of SSIM; this restores it
    pixels: Pixels | Planes = decoded.scaled(fit_within(picture.width, picture.height, longest_edge))
    if isinstance(pixels, Pixels):  # converted after the reduction: two million pixels, not fifty
        pixels = pixels.in_srgb(None if in_srgb and pixels.mode in ("RGB", "YCbCr") else picture.colour)
    return _render(pixels.upright(picture.orientation), picture.displayed_size, sizes, quality, webp)


def thumbnails_of_frame(
    frame: Image.Image, sizes: ThumbnailSizes, quality: int, webp: Webp, colour: CodePoints | None, orientation: int
) -> Thumbnails:
    """Return thumbnails of a frame of mode RGB, which is changed. It is in ``colour`` (None: sRGB), not rotated yet."""
    largest = fit_within(*frame.size, max(size.longest_edge for size in sizes))
    pixels = Pixels.of_pillow(frame).in_srgb(colour).scaled(largest).upright(orientation)
    return _render(pixels, turned_size(frame.size, orientation), sizes, quality, webp)


def _render(pixels: Pixels | Planes, full_size: Size, sizes: ThumbnailSizes, quality: int, webp: Webp) -> Thumbnails:
    thumbnails: dict[str, bytes] = {}
    by_dimensions: dict[Size, tuple[bytes, bytes]] = {}  # a small picture has the same thumbnail in several sizes
    with_webp = webp == "all" or (webp == "alpha" and pixels.has_alpha)
    if _are_wide(full_size, sizes):
        pixels = in_planes(pixels)
    for size in sorted(sizes, key=lambda size: -size.longest_edge):
        dimensions = fit_within(*full_size, size.longest_edge)
        pixels = pixels.scaled(dimensions)
        if dimensions not in by_dimensions:
            jpeg = _within_limit(pixels.jpeg, quality)
            by_dimensions[dimensions] = jpeg, _within_limit(pixels.webp, quality) if with_webp else b""
        thumbnails[size.name], thumbnails[f"{size.name}{WEBP_SUFFIX}"] = by_dimensions[dimensions]
    made = {name: thumbnails[name] for name in thumbnail_names(sizes) if thumbnails[name]}
    return Thumbnails(made, _blurhash(pixels))


def _within_limit(encode: Callable[[int], bytes], quality: int) -> bytes:
    """Encode at this quality, or at the next lower one at which the file is small enough."""
    data = encode(quality)
    while len(data) > MAX_THUMBNAIL_BYTES and quality > 1:
        quality = max(1, quality - _QUALITY_STEP)
        data = encode(quality)
    return data


def _are_wide(full_size: Size, sizes: ThumbnailSizes) -> bool:
    """Return whether planes serve for all thumbnails."""
    return min(fit_within(*full_size, min(size.longest_edge for size in sizes))) >= NARROWEST


def _blurhash(pixels: Pixels | Planes) -> str:
    """Return the BlurHash (https://blurha.sh) of a small copy, because its time grows with the number of pixels."""
    small = pixels.on_white().resize(fit_within(*pixels.size, _BLURHASH_EDGE), Image.Resampling.BOX).convert("RGB")
    across, down = (4, 3) if small.width >= small.height else (3, 4)
    return blurhash_encode(small, x_components=across, y_components=down)
