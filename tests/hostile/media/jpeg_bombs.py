"""JPEG: sizes that lie, scans and markers without end, and metadata that leads in circles."""

from __future__ import annotations

import struct
from functools import cache

from PIL import Image

from avion_media.common.errors import Reason
from mediascrub.jpeg import START
from mediascrub.tests.made_files import jpeg_segment, picture, saved, tiff
from tests.hostile.media.bomb import READY, Bomb

MIB = 1 << 20
_SOF, _PROGRESSIVE_SOF, _SOS = b"\xff\xc0", b"\xff\xc2", b"\xff\xda"


@cache
def plain(progressive: bool = False) -> bytes:
    """A good picture of 48 x 32."""
    return saved(picture(), "JPEG", progressive=progressive)


def sized(width: int, height: int, kind: bytes = _SOF, precision: int = 8) -> bytes:
    """The good picture whose frame header says another size, process or precision."""
    data = bytearray(plain())
    at = data.index(_SOF)
    data[at : at + 2] = kind
    struct.pack_into(">BHH", data, at + 4, precision, height, width)
    return bytes(data)


def with_segments(*segments: bytes) -> bytes:
    """The good picture with segments right behind its start."""
    return plain()[:2] + b"".join(segments) + plain()[2:]


def with_exif(block: bytes) -> bytes:
    """The good picture with an Exif block."""
    return with_segments(jpeg_segment(0xE1, b"Exif\0\0" + block))


def before_scan(inserted: bytes) -> bytes:
    """The good picture with bytes in front of its scan."""
    at = plain().index(_SOS)
    return plain()[:at] + inserted + plain()[at:]


def in_scan(inserted: bytes) -> bytes:
    """The good picture with bytes in the middle of its only scan."""
    at = (plain().index(_SOS) + len(plain())) // 2
    return plain()[:at] + inserted + plain()[at:]


def many_scans() -> bytes:
    """A small file whose last scan comes thousands of times: each is a pass over the picture."""
    data = plain(progressive=True)
    scan = data[data.rindex(_SOS) : -2]
    return data[:-2] + scan * 5000 + data[-2:]


def scans_of_a_large_picture() -> bytes:
    """As many scans as a small picture may have, over 49 megapixels."""
    data = bytearray(plain(progressive=True))
    at = data.index(_PROGRESSIVE_SOF)
    struct.pack_into(">HH", data, at + 5, 7000, 7000)
    scan = data[data.rindex(_SOS) : -2]
    return bytes(data[:-2]) + bytes(scan) * 80 + b"\xff\xd9"


def circular_directories() -> bytes:
    """IFD0 names itself as the next one, as its Exif directory and as its GPS directory."""
    pointers = [(tag, 4, 1, struct.pack(">I", 8)) for tag in (0x8769, 0x8825, 0xA005)]
    block = bytearray(tiff(pointers))
    block[8 + 2 + 12 * len(pointers) :][:4] = struct.pack(">I", 8)
    return with_exif(bytes(block))


def large(progressive: bool) -> bytes:
    """49 megapixels of one colour in a few hundred kilobytes."""
    return saved(Image.new("RGB", (7000, 7000), (90, 120, 40)), "JPEG", progressive=progressive, quality=30)


def profile_chunks(count: int, length: int) -> bytes:
    """An ICC profile of so many chunks."""
    head = b"ICC_PROFILE\0"
    return with_segments(
        *(jpeg_segment(0xE2, head + bytes((number, count)) + bytes(length)) for number in range(count))
    )


def embedded_giant() -> bytes:
    """An Exif thumbnail that says it has 65 500 x 65 500 pixels."""
    preview = sized(65500, 65500)
    entries = [(0x0201, 4, 1, struct.pack(">I", 38)), (0x0202, 4, 1, struct.pack(">I", len(preview)))]
    return with_exif(tiff(entries, behind=preview))


def two_sizes() -> bytes:
    """Two frame headers: whoever believes the first sees another picture than who believes the last."""
    data = plain()
    frame = data.index(_SOF)
    length = 2 + int.from_bytes(data[frame + 2 : frame + 4], "big")
    other = bytearray(data[frame : frame + length])
    struct.pack_into(">HH", other, 5, 16, 16)
    return data[:frame] + bytes(other) + data[frame:]


XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"

BOMBS = (
    Bomb("65500x65500.jpg", lambda: sized(65500, 65500), Reason.TOO_MANY_PIXELS),
    Bomb("65535x65535.jpg", lambda: sized(65535, 65535), Reason.BAD_DIMENSIONS),
    Bomb("no-width.jpg", lambda: sized(0, 32), Reason.BAD_DIMENSIONS),
    Bomb("height-told-later.jpg", lambda: sized(48, 0), Reason.BAD_DIMENSIONS),
    Bomb("ribbon.jpg", lambda: sized(65500, 100), Reason.BAD_ASPECT),
    Bomb("larger-than-its-pixels.jpg", lambda: sized(7000, 7000), READY),
    Bomb("arithmetic.jpg", lambda: sized(48, 32, b"\xff\xc9"), Reason.UNSUPPORTED_TYPE),
    Bomb("lossless.jpg", lambda: sized(48, 32, b"\xff\xc3"), Reason.UNSUPPORTED_TYPE),
    Bomb("12-bit.jpg", lambda: sized(48, 32, precision=12), Reason.UNSUPPORTED_TYPE),
    Bomb("two-sizes.jpg", two_sizes, Reason.CORRUPT),
    Bomb("49-megapixels.jpg", lambda: large(progressive=False), READY),
    Bomb("49-megapixels-progressive.jpg", lambda: large(progressive=True), READY),
    Bomb("5000-scans.jpg", many_scans, Reason.UNSUPPORTED_TYPE),
    Bomb("80-scans-of-49-megapixels.jpg", scans_of_a_large_picture, Reason.UNSUPPORTED_TYPE),
    Bomb("a-million-restarts.jpg", lambda: in_scan(b"\xff\xd0" * MIB), READY),
    Bomb("a-million-restarts-before-the-scan.jpg", lambda: before_scan(b"\xff\xd0" * MIB), READY),
    Bomb("fill-bytes.jpg", lambda: before_scan(b"\xff" * 4 * MIB), READY),
    Bomb("200000-comments.jpg", lambda: with_segments(jpeg_segment(0xFE, b"") * 200_000), READY),
    Bomb("a-quarter-of-a-million-segments.jpg", lambda: START + jpeg_segment(0xE0, b"") * (MIB // 4), Reason.CORRUPT),
    Bomb("circular-directories.jpg", circular_directories, READY),
    Bomb("65535-tags.jpg", lambda: with_exif(b"MM\0*\0\0\0\x08\xff\xff" + bytes(65_000)), READY),
    Bomb("tags-of-4-gigabytes.jpg", lambda: with_exif(tiff([(0x010E, 2, 0xFFFFFFFF, b"\xff\xff\xff\xff")])), READY),
    Bomb("giant-profile.jpg", lambda: profile_chunks(200, 65_000), READY),
    Bomb(
        "giant-xmp.jpg",
        lambda: with_segments(*(jpeg_segment(0xE1, EXTENDED_XMP + bytes(65_000)) for _ in range(200))),
        READY,
    ),
    Bomb("xmp-entities.jpg", lambda: with_segments(jpeg_segment(0xE1, XMP + b'<!DOCTYPE a [<!ENTITY b "c">]>')), READY),
    Bomb("giant-in-the-thumbnail.jpg", embedded_giant, READY),
    Bomb("no-scan.jpg", lambda: plain()[: plain().index(_SOS)] + b"\xff\xd9", Reason.CORRUPT),
    Bomb("cut-off.jpg", lambda: plain()[: len(plain()) * 2 // 3], Reason.CORRUPT),
)
