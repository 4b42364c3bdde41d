"""PNG and APNG: compressed bombs in every chunk that may hold one, and frames that are not there."""

from __future__ import annotations

import struct
import zlib
from functools import cache

from avion_media.common.errors import Reason
from mediascrub.tests.made_files import picture, png_chunk, saved
from mediathumbs.tests.made import with_chunks
from tests.hostile.media.bomb import READY, Bomb, zeros

MIB = 1 << 20
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@cache
def plain() -> bytes:
    """A good picture of 48 x 32."""
    return saved(picture(), "PNG")


def made(
    width: int, height: int, pixels: bytes, *chunks: bytes, depth: int = 8, colour: int = 0, interlace: int = 0
) -> bytes:
    """A PNG of any header and any compressed pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


def frame_control(
    number: int, width: int = 48, height: int = 32, left: int = 0, delay: tuple[int, int] = (1, 10)
) -> bytes:
    """``fcTL``."""
    return png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, left, 0, *delay, 0, 0))


def animated(claimed: int, *frames: bytes) -> bytes:
    """The good picture with an animation of these chunks behind it."""
    control = png_chunk(b"acTL", struct.pack(">II", claimed, 0)) + frame_control(0)
    return with_chunks(plain(), control)[:-12] + b"".join(frames) + png_chunk(b"IEND", b"")


def frame_data(number: int, pixels: bytes) -> bytes:
    """``fdAT``."""
    return png_chunk(b"fdAT", struct.pack(">I", number) + pixels)


def many_frames(count: int, delay: tuple[int, int] = (1, 10)) -> bytes:
    """An animation of so many frames of one pixel."""
    pixel = zlib.compress(b"\0\0\0\0")
    frames = (frame_control(2 * n + 1, 1, 1, delay=delay) + frame_data(2 * n + 2, pixel) for n in range(count))
    return animated(count + 1, *frames)


def wrong_checksum() -> bytes:
    """One bit of the pixels is not what their checksum says."""
    data = bytearray(plain())
    data[data.index(b"IDAT") + 20] ^= 1
    return bytes(data)


def shredded() -> bytes:
    """Pixels in chunks of one byte."""
    start = plain().index(b"IDAT") - 4
    length = int.from_bytes(plain()[start : start + 4], "big")
    pixels = plain()[start + 8 : start + 8 + length]
    return plain()[:start] + b"".join(png_chunk(b"IDAT", bytes((each,))) for each in pixels) + plain()[-12:]


LARGE = (7000, 7000)

BOMBS = (
    Bomb("60000x60000.png", lambda: made(60_000, 60_000, zeros(1)), Reason.TOO_MANY_PIXELS),
    Bomb("two-billion-wide.png", lambda: made(0x7FFFFFFF, 1, zeros(1)), Reason.BAD_DIMENSIONS),
    Bomb("negative.png", lambda: made(0xFFFFFFFF, 0xFFFFFFFF, zeros(1)), Reason.BAD_DIMENSIONS),
    Bomb("empty.png", lambda: made(0, 0, zeros(1)), Reason.BAD_DIMENSIONS),
    Bomb("ribbon.png", lambda: made(65_000, 10, zeros(1)), Reason.BAD_ASPECT),
    Bomb("49-megapixels.png", lambda: made(*LARGE, zeros(47)), READY),
    Bomb("9-megapixels-16-bit-rgba.png", lambda: made(3000, 3000, zeros(69), depth=16, colour=6), READY),
    Bomb("49-megapixels-interlaced.png", lambda: made(*LARGE, zeros(48), interlace=1), READY),
    Bomb("larger-than-its-pixels.png", lambda: made(*LARGE, zeros(1)), Reason.CORRUPT),
    Bomb("pixels-of-a-gigabyte.png", lambda: made(10, 10, zeros(1024)), READY),
    Bomb("text-of-a-gigabyte.png", lambda: with_chunks(plain(), png_chunk(b"zTXt", b"a\0\0" + zeros(1024))), READY),
    Bomb(
        "international-text-of-a-gigabyte.png",
        lambda: with_chunks(plain(), png_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(1024))),
        READY,
    ),
    Bomb("profile-of-a-gigabyte.png", lambda: with_chunks(plain(), png_chunk(b"iCCP", b"a\0\0" + zeros(1024))), READY),
    Bomb("100000-chunks.png", lambda: with_chunks(plain(), png_chunk(b"tEXt", b"") * 100_000), READY),
    Bomb("pixels-of-single-bytes.png", shredded, READY),
    Bomb("wrong-checksum.png", wrong_checksum, Reason.CORRUPT),
    Bomb("no-palette.png", lambda: made(48, 32, zeros(1), colour=3), Reason.CORRUPT),
    Bomb("no-such-kind.png", lambda: made(48, 32, zeros(1), depth=7, colour=5), Reason.CORRUPT),
    Bomb(
        "chunk-of-4-gigabytes.png",
        lambda: SIGNATURE + plain()[8:33] + b"\xff\xff\xff\xffIDAT" + zeros(1),
        READY,
    ),
    Bomb("no-pixels.png", lambda: plain()[:33] + png_chunk(b"IEND", b""), Reason.CORRUPT),
    Bomb("animation-claims-4-billion-frames.png", lambda: animated(0xFFFFFFFF), READY),
    Bomb("20000-frames.png", lambda: many_frames(20_000), Reason.TOO_MANY_FRAMES),
    Bomb("a-week-of-animation.png", lambda: many_frames(60, delay=(65_535, 1)), Reason.TOO_LONG),
    Bomb("frame-beyond-its-canvas.png", lambda: animated(2, frame_control(1, 60_000, 60_000, 7)), READY),
    Bomb("frame-of-a-gigabyte.png", lambda: animated(2, frame_control(1), frame_data(2, zeros(1024))), READY),
    Bomb("cut-off-frame-control.png", lambda: animated(2, png_chunk(b"fcTL", bytes(4))), READY),
)
