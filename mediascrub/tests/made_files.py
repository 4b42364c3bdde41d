"""Building blocks of files that no camera writes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms

from mediascrub import Format, ScrubCode, ScrubError, read_picture
from mediascrub.bounds import PictureBounds
from mediascrub.icc import neutral_profile

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CLEAN_PROFILE = neutral_profile(SRGB_PROFILE)
LEAK = b"THE-LEAK"
_BOUNDLESS = PictureBounds(1 << 64, 1 << 32, 1e12, 1e12, 1 << 32)


def picture(width: int = 48, height: int = 32, mode: str = "RGB") -> Image.Image:
    """A small picture without symmetry."""
    gradient = Image.linear_gradient("L").resize((width, height))
    turned = gradient.transpose(Image.Transpose.ROTATE_90).resize((width, height))
    return Image.merge("RGB", (gradient, turned, Image.eval(gradient, lambda value: 255 - value))).convert(mode)


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def tiff(entries: list[tuple[int, int, int, bytes]], order: str = ">", behind: bytes = b"") -> bytes:
    """A TIFF block of one directory at offset 8: entries are tag, type, count and four bytes of value."""
    directory = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    magic = b"MM\0*" if order == ">" else b"II*\0"
    return magic + struct.pack(f"{order}IH", 8, len(entries)) + directory + bytes(4) + behind


def oriented(orientation: int, order: str = ">", behind: bytes = b"") -> bytes:
    """An Exif block (without prefix) with an orientation and something behind it."""
    return tiff([(0x0112, 3, 1, struct.pack(f"{order}H", orientation))], order, behind)


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    """A JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def gif_extension(label: int, *blocks: bytes) -> bytes:
    """A GIF extension of these data blocks."""
    return bytes((0x21, label)) + b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def riff_chunk(kind: bytes, payload: bytes) -> bytes:
    """A RIFF chunk, padded."""
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def webp(*chunks: bytes) -> bytes:
    """A WebP file of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def box(kind: bytes, *parts: bytes) -> bytes:
    """An ISO box."""
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """An ISO box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def original_of(content: bytes | memoryview, fmt: Format) -> bytes:
    """What is served of a picture, whatever its size."""
    return read_picture(memoryview(content), fmt, _BOUNDLESS).original


def refused(content: bytes, fmt: Format) -> ScrubCode:
    """The reason for which the reader rejects it."""
    with pytest.raises(ScrubError) as rejected:
        original_of(content, fmt)
    return rejected.value.code
