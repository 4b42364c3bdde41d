"""GIF and WebP: canvases and frames that do not fit each other, and pictures that grow ten-thousandfold."""

from __future__ import annotations

import struct
from functools import cache

from PIL import Image

from avion_media.common.errors import Reason
from mediascrub.tests.made_files import gif_extension, picture, riff_chunk, saved, webp
from tests.hostile.media.bomb import READY, Bomb

MIB = 1 << 20
_LZW_OF_ONE_PIXEL = b"\x02\x02\x44\x01\x00"


def gif(width: int, height: int, *blocks: bytes, trailer: bytes = b";") -> bytes:
    """A GIF of two colours and these blocks."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b"".join(blocks) + trailer


def frame(width: int, height: int, left: int = 0, pixels: bytes = _LZW_OF_ONE_PIXEL) -> bytes:
    """One frame."""
    return b"," + struct.pack("<HHHHB", left, 0, width, height, 0) + pixels


def delayed(hundredths: int) -> bytes:
    """A graphic control extension."""
    return gif_extension(0xF9, struct.pack("<BHB", 0, hundredths, 0))


def circular_codes() -> bytes:
    """LZW codes that name entries which do not exist yet."""
    return b"\x02\x04\xff\xff\xff\xff\x00"


@cache
def still(lossless: bool = False) -> bytes:
    """A good WebP of 48 x 32; behind the RIFF header is one chunk."""
    return saved(picture(), "WEBP", lossless=lossless)


def extended(width: int, height: int, *chunks: bytes, flags: int = 0) -> bytes:
    """A WebP with an extended header of this canvas."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(riff_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + size), *chunks)


def animation_frame(width: int = 48, height: int = 32, left: int = 0, milliseconds: int = 100) -> bytes:
    """``ANMF`` around the good picture."""
    place = b"".join(value.to_bytes(3, "little") for value in (left // 2, 0, width - 1, height - 1, milliseconds))
    return riff_chunk(b"ANMF", place + b"\0" + still()[12:])


def animation(*frames: bytes, width: int = 48, height: int = 32) -> bytes:
    """A WebP animation."""
    return extended(width, height, riff_chunk(b"ANIM", bytes(6)), *frames, flags=2)


def nested() -> bytes:
    """Frames inside frames inside frames."""
    inner = still()[12:]
    for _ in range(1000):
        inner = riff_chunk(b"ANMF", bytes(6) + b"\x2f\0\0\x1f\0\0" + bytes(4) + inner)
    return animation(inner)


def lying_size(size: int) -> bytes:
    """The good WebP whose RIFF header says another length."""
    return still()[:4] + struct.pack("<I", size) + still()[8:]


def vp8_sized(width: int, height: int) -> bytes:
    """The good WebP whose lossy bitstream says another size."""
    data = bytearray(still())
    struct.pack_into("<HH", data, 26, width, height)
    return bytes(data)


def large_gif() -> bytes:
    """49 megapixels of one colour."""
    return saved(Image.new("P", (7000, 7000)), "GIF")


def large_webp(lossless: bool) -> bytes:
    """49 megapixels of one colour."""
    return saved(Image.new("RGB", (7000, 7000), (90, 120, 40)), "WEBP", lossless=lossless, method=0, quality=30)


ALPHA, EXIF, ICC, XMP = 16, 8, 32, 4

BOMBS = (
    Bomb("65535x65535.gif", lambda: gif(65_535, 65_535, frame(1, 1)), Reason.BAD_DIMENSIONS),
    Bomb("60000x60000.gif", lambda: gif(60_000, 60_000, frame(1, 1)), Reason.TOO_MANY_PIXELS),
    Bomb("frame-beyond-its-canvas.gif", lambda: gif(1, 1, frame(60_000, 60_000)), Reason.TOO_MANY_PIXELS),
    Bomb("frame-far-off.gif", lambda: gif(300, 300, frame(1, 1, left=65_535)), Reason.BAD_DIMENSIONS),
    Bomb("empty.gif", lambda: gif(0, 0, frame(0, 0)), Reason.BAD_DIMENSIONS),
    Bomb("49-megapixels.gif", large_gif, READY),
    Bomb("canvas-grows-to-49-megapixels.gif", lambda: large_gif()[:6] + b"\1\0\1\0" + large_gif()[10:], READY),
    Bomb("larger-than-its-pixels.gif", lambda: gif(7000, 7000, frame(7000, 7000)), Reason.CORRUPT),
    Bomb("20000-frames.gif", lambda: gif(1, 1, frame(1, 1) * 20_000), Reason.TOO_MANY_FRAMES),
    Bomb("a-day-of-animation.gif", lambda: gif(1, 1, (delayed(65_535) + frame(1, 1)) * 140), Reason.TOO_LONG),
    Bomb("circular-codes.gif", lambda: gif(48, 32, frame(48, 32, pixels=circular_codes())), Reason.CORRUPT),
    Bomb("codes-of-20-bits.gif", lambda: gif(1, 1, frame(1, 1, pixels=b"\x14\x02\x44\x01\0")), Reason.CORRUPT),
    Bomb("no-frame.gif", lambda: gif(48, 32, gif_extension(0xFE, b"words") * 1000), Reason.CORRUPT),
    Bomb("a-million-comments.gif", lambda: gif(1, 1, gif_extension(0xFE) * MIB, frame(1, 1)), READY),
    Bomb("padding.gif", lambda: gif(1, 1, bytes(4 * MIB), frame(1, 1)), Reason.CORRUPT),
    Bomb("comment-without-end.gif", lambda: gif(1, 1, b"!\xfe" + b"\x01a" * MIB, trailer=b""), Reason.CORRUPT),
    Bomb("16-million-wide.webp", lambda: extended(1 << 24, 1 << 24, still()[12:]), Reason.BAD_DIMENSIONS),
    Bomb("16383x16383.webp", lambda: vp8_sized(16_383, 16_383), Reason.TOO_MANY_PIXELS),
    Bomb("empty.webp", lambda: vp8_sized(0, 0), Reason.BAD_DIMENSIONS),
    Bomb("larger-than-its-pixels.webp", lambda: vp8_sized(7000, 7000), Reason.CORRUPT),
    Bomb("canvas-is-not-the-picture.webp", lambda: extended(7000, 7000, still()[12:]), Reason.CORRUPT),
    Bomb("49-megapixels.webp", lambda: large_webp(lossless=False), READY),
    Bomb("49-megapixels-lossless.webp", lambda: large_webp(lossless=True), READY),
    Bomb("20000-frames.webp", lambda: animation(animation_frame() * 20_000), Reason.TOO_MANY_FRAMES),
    Bomb("a-week-of-animation.webp", lambda: animation(animation_frame(milliseconds=0xFFFFFF) * 40), Reason.TOO_LONG),
    Bomb("frame-beyond-its-canvas.webp", lambda: animation(animation_frame(left=4000)), Reason.CORRUPT),
    Bomb("frame-is-not-its-picture.webp", lambda: animation(animation_frame(16, 16)), READY),
    Bomb("frames-in-frames.webp", nested, Reason.CORRUPT),
    Bomb("no-frames.webp", animation, Reason.CORRUPT),
    Bomb(
        "49-megapixel-canvas-of-small-frames.webp",
        lambda: animation(animation_frame(), width=7000, height=7000),
        READY,
    ),
    Bomb("length-of-4-gigabytes.webp", lambda: lying_size(0xFFFFFFFF), Reason.CORRUPT),
    Bomb("length-of-nothing.webp", lambda: lying_size(0), Reason.CORRUPT),
    Bomb(
        "giant-profile.webp",
        lambda: extended(48, 32, riff_chunk(b"ICCP", bytes(12 * MIB)), still()[12:], flags=ICC),
        READY,
    ),
    Bomb(
        "giant-metadata.webp",
        lambda: extended(48, 32, still()[12:], riff_chunk(b"XMP ", bytes(12 * MIB)), flags=XMP),
        READY,
    ),
    Bomb(
        "half-a-million-chunks.webp",
        lambda: extended(48, 32, still()[12:], riff_chunk(b"none", b"") * 500_000),
        READY,
    ),
    Bomb("cut-off.webp", lambda: still()[: len(still()) // 2], Reason.CORRUPT),
)
