"""How much memory a decode may take: forecast from a file's first bytes, and known once its structure was read.

The forecast is what a job asks the sandbox for before anything was parsed, so that small pictures do not take the room
of the largest. It believes the header; whoever lies there gains nothing, since the job compares with what it found, and
the sandbox holds it to what it was granted.
"""

from __future__ import annotations

import os
from typing import Final

from avion_media.domain import formats
from avion_media.domain.formats import MediaFormat
from avion_media.media.image.jpeg import JpegOutline
from avion_media.media.image.outline import Outline
from avion_media.media.image.webp import canvas_size

# The interpreter's own growth, scaled planes, encoder, and thumbnails.
_BASE_BYTES: Final = 96 << 20
_COPIES: Final = 4  # of the file: mapped, read, cut down for the decoder, scrubbed
# Bytes a pixel at worst, measured at 48 million pixels as growth of the address space: progressive CMYK JPEG 8.8, RGBA
# PNG 13.0, GIF 5.5 (transparent ones become RGBA), WebP with alpha 17.5, AVIF with alpha 16.5 and HEIC 15.0 (of 8 bits;
# their planes take twice as much with 10).
_BYTES_PER_PIXEL: Final = {
    formats.JPEG.name: 10,
    formats.PNG.name: 14,
    formats.GIF.name: 14,
    formats.WEBP.name: 19,
    formats.AVIF.name: 23,
    formats.HEIC.name: 23,
}
_BASELINE_JPEG_BYTES_PER_PIXEL: Final = 3  # it is shrunk line by line as it is decoded
_UNKNOWN_PIXELS: Final = 1 << 40  # more than any sandbox holds: the answer is then the most that may be granted

_HEAD_BYTES: Final = 64 << 10  # where the boxes of an AVIF or HEIC are
_MAX_JPEG_SEGMENTS: Final = 256  # a profile or preview takes one for each 64 KiB
_FRAME_HEADERS: Final = frozenset((0xC0, 0xC1, 0xC2))
_PROGRESSIVE: Final = 0xC2


class NeedsMoreMemory(Exception):
    """A decode may take ``needed_bytes``, which is more than it was granted; nothing was decoded."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(f"{needed_bytes} bytes")
        self.needed_bytes = needed_bytes


def decoding_bytes(fmt: MediaFormat, outline: Outline, file_bytes: int) -> int:
    """The most that decoding this picture takes, in bytes, with thumbnails and scrub of the file."""
    per_pixel = _BYTES_PER_PIXEL[fmt.name]
    if isinstance(outline, JpegOutline) and not outline.held_whole:
        per_pixel = _BASELINE_JPEG_BYTES_PER_PIXEL
    return _BASE_BYTES + _COPIES * file_bytes + outline.width * outline.height * per_pixel


def forecast_bytes(fd: int, fmt: MediaFormat, file_bytes: int) -> int:
    """What the picture in ``fd`` seems to need, from a few reads that never move the descriptor. Never raises.

    Too much where its header does not say; too little only where that lies.
    """
    if fmt == formats.JPEG:
        pixels, per_pixel = _jpeg(fd)
    else:
        pixels, per_pixel = _pixels(os.pread(fd, _HEAD_BYTES, 0), fmt), _BYTES_PER_PIXEL[fmt.name]
    return _BASE_BYTES + _COPIES * file_bytes + pixels * per_pixel


def _pixels(head: bytes, fmt: MediaFormat) -> int:
    if fmt == formats.PNG and len(head) >= 24:
        return int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")
    if fmt == formats.GIF and len(head) >= 10:
        return int.from_bytes(head[6:8], "little") * int.from_bytes(head[8:10], "little")
    if fmt == formats.WEBP:
        size = canvas_size(head)
        return size[0] * size[1] if size else _UNKNOWN_PIXELS
    return _largest_extent(head)


def _largest_extent(head: bytes) -> int:
    """Of all items of an AVIF or HEIC: that of the primary one is no smaller than its tiles and previews."""
    largest, position = 0, head.find(b"ispe")
    while position >= 0:
        width, height = head[position + 8 : position + 12], head[position + 12 : position + 16]
        largest = max(largest, int.from_bytes(width, "big") * int.from_bytes(height, "big"))
        position = head.find(b"ispe", position + 4)
    return largest or _UNKNOWN_PIXELS


def _jpeg(fd: int) -> tuple[int, int]:
    """Pixels, and bytes for each, by hopping from segment to segment."""
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        segment = os.pread(fd, 9, position)
        if len(segment) < 9 or segment[0] != 0xFF:
            break
        if segment[1] in _FRAME_HEADERS:
            height, width = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
            progressive = segment[1] == _PROGRESSIVE
            return width * height, _BYTES_PER_PIXEL["jpeg"] if progressive else _BASELINE_JPEG_BYTES_PER_PIXEL
        position += 2 + int.from_bytes(segment[2:4], "big")
    return _UNKNOWN_PIXELS, 1
