"""Thumbnails and BlurHash: one decode, then each size from the next larger one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from avion_media.domain.media import ThumbnailSize, fit_within
from avion_media.media.formats import Picture
from avion_media.media.formats.picture import Colour
from avion_media.media.image.blurhash import blurhash
from avion_media.media.image.boundary import rejecting_damage
from avion_media.media.image.colour import is_srgb, to_srgb
from avion_media.media.image.decode import decode_image
from avion_media.media.image.planes import Planes

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of an EXIF orientation upright (1 is)."""

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
    file, no socket and (but for HEIC) no thread.
    """
    longest_edge = max(size.longest_edge for size in sizes)
    in_srgb = is_srgb(picture.colour)
    image = decode_image(picture, longest_edge, as_ycbcr=in_srgb)
    if image.size != (picture.width, picture.height):
        quality += 1  # a decode shrunk inside the DCT costs 0.0015 of SSIM; this gives it back (tests/bench/images)
    with rejecting_damage("scaling"):
        colour = None if in_srgb and image.mode in ("RGB", "YCbCr") else picture.colour
        planes = _srgb_planes(image, fit_within(picture.width, picture.height, longest_edge), colour)
        if picture.orientation in _UPRIGHT:
            planes = planes.transposed(_UPRIGHT[picture.orientation])
        return _render(planes, picture.displayed_size, sizes, quality)


def thumbnails_of_frame(
    rgb: bytes | bytearray | memoryview, size: tuple[int, int], sizes: Sequence[ThumbnailSize], quality: int = 80
) -> Thumbnails:
    """Thumbnails of a frame: raw RGB24 rows without padding, sRGB and upright.

    `ValueError` when ``rgb`` is not width x height x 3 bytes.
    """
    width, height = size
    if width < 1 or height < 1 or len(rgb) != width * height * 3:
        raise ValueError(f"{len(rgb)} bytes are no RGB24 frame of {width}x{height}")
    frame = Image.frombytes("RGB", size, rgb)
    planes = Planes.scaled(frame, fit_within(width, height, max(size.longest_edge for size in sizes)))
    return _render(planes, size, sizes, quality)


def _srgb_planes(image: Image.Image, size: tuple[int, int], colour: Colour | None) -> Planes:
    """The picture at ``size`` in sRGB, from the ``colour`` it is in (None: sRGB)."""
    if colour is None and image.mode != "CMYK":
        return Planes.scaled(image, size)
    # Converted after the shrink: two million pixels, not fifty. LANCZOS as for luma, of which this becomes a part.
    small = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return Planes.scaled(to_srgb(small, colour), size)


def _render(planes: Planes, full_size: tuple[int, int], sizes: Sequence[ThumbnailSize], quality: int) -> Thumbnails:
    thumbnails: dict[str, bytes] = {}
    by_dimensions: dict[tuple[int, int], bytes] = {}  # small pictures have the same thumbnail in several sizes
    for size in sorted(sizes, key=lambda size: -size.longest_edge):
        dimensions = fit_within(*full_size, size.longest_edge)
        planes = planes.shrunk(dimensions)
        if dimensions not in by_dimensions:
            by_dimensions[dimensions] = planes.jpeg(quality)
        thumbnails[size.name] = by_dimensions[dimensions]
    return Thumbnails({size.name: thumbnails[size.name] for size in sizes}, _blurhash(planes))


def _blurhash(planes: Planes) -> str:
    width, height = planes.size
    small = planes.averaged(fit_within(width, height, _BLURHASH_EDGE))
    return blurhash(small, 4, 3) if width >= height else blurhash(small, 3, 4)
