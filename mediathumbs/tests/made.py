"""Pictures that the tests make: small, asymmetric, with whatever chunk or tag a test needs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mediascrub import Format, Picture, read_picture
from mediascrub.bounds import PictureBounds
from mediathumbs import ThumbnailSize, vips
from mediathumbs.pictures import make_thumbnails

vips.allow_png()
vips.allow_webp()
DATA = Path(__file__).parent / "data"
RED, GREEN, BLUE, YELLOW = (220, 40, 40), (40, 180, 60), (40, 60, 200), (220, 210, 50)
Rgb = tuple[int, int, int]

TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is turned to be stored with an EXIF orientation."""


def quadrants(width: int = 96, height: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, yellow bottom right: no turn or mirror image is like it."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def original_of(content: bytes, fmt: Format) -> bytes:
    """What is served of a picture."""
    return read_picture(memoryview(content), fmt).original


def exif_with_orientation(orientation: int, order: str = ">") -> bytes:
    """A minimal EXIF block, without its ``Exif`` prefix."""
    magic = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return magic + struct.pack(order + "IH", 8, 1) + entry + b"\0\0\0\0"


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """The PNG with chunks put right after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def png_of_samples(
    size: tuple[int, int], bit_depth: int, colour_type: int, rows: list[bytes], *chunks: bytes, level: int = -1
) -> bytes:
    """A PNG of raw rows, compressed with a level of zlib, for kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", *size, bit_depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), level)
    signature = b"\x89PNG\r\n\x1a\n"
    return b"".join((signature, chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")))


def thumbnail_of(data: bytes, fmt: Format, longest_edge: int = 400, quality: int = 95) -> Image.Image:
    """The picture's only thumbnail, in RGB."""
    result = process(data, fmt, [ThumbnailSize("only", longest_edge)], PictureBounds(), quality=quality)
    return Image.open(io.BytesIO(result.thumbnails["only"]), formats=["JPEG"]).convert("RGB")


def distance(image: Image.Image, at: tuple[int, int], colour: Rgb) -> int:
    """How far a pixel is from a colour: the largest difference of a channel."""
    pixel = image.convert("RGB").crop((*at, at[0] + 1, at[1] + 1)).tobytes()
    return max(abs(is_ - ought) for is_, ought in zip(pixel, colour, strict=True))


def assert_quadrants(image: Image.Image, tolerance: int = 6) -> None:
    """The picture is that of `quadrants`, upright."""
    width, height = image.size
    left, right, top, bottom = width // 4, 3 * width // 4, height // 4, 3 * height // 4
    expected = {(left, top): RED, (right, top): GREEN, (left, bottom): BLUE, (right, bottom): YELLOW}
    distances = {at: distance(image, at, colour) for at, colour in expected.items()}
    assert max(distances.values()) <= tolerance, distances


@dataclass(frozen=True)
class Facts:
    """What is told of a picture: as displayed."""

    width: int
    height: int
    frames: int = 1
    duration_s: float = 0.0

    @property
    def animated(self) -> bool:
        return self.frames > 1


@dataclass(frozen=True)
class Result:
    """All that a job makes of a picture."""

    facts: Facts
    thumbnails: dict[str, bytes]
    blurhash: str
    original: bytes


def inspect_image(data: bytes | bytearray | memoryview, fmt: Format, bounds: PictureBounds) -> Facts:
    """What is known of a picture before it is decoded."""
    return _facts(read_picture(memoryview(data), fmt, bounds))


def process(
    data: bytes | bytearray | memoryview,
    fmt: Format,
    sizes: Sequence[ThumbnailSize],
    bounds: PictureBounds,
    quality: int = 80,
) -> Result:
    """Read and decode a picture, as a job does."""
    picture = read_picture(memoryview(data), fmt, bounds)
    made = make_thumbnails(picture, sizes, quality)
    return Result(_facts(picture), made.by_name, made.blurhash, picture.original)


def _facts(picture: Picture) -> Facts:
    return Facts(*picture.displayed_size, picture.frames, picture.duration_s)
