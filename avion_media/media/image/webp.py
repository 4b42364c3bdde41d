"""The structure of a WebP file: its RIFF chunks."""

from __future__ import annotations

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.image.colour import Colour, IccProfile
from avion_media.media.image.exif import orientation_of
from avion_media.media.image.outline import MAX_ICC_BYTES, FrameCounter, Outline, bounded_parts


def walk_webp(data: bytes, max_frames: int) -> Outline:
    """Outline a WebP: canvas, frames of an animation, orientation, ICC profile."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise Rejected(Reason.CORRUPT, "no WebP signature")
    size = canvas_size(data)
    if size is None:
        raise Rejected(Reason.CORRUPT, "no WebP bitstream header")
    counter = FrameCounter(max_frames)
    colour: Colour | None = None
    orientation = 1
    position = 12
    for _ in bounded_parts():
        if position + 8 > len(data):
            break
        kind = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        start = position + 8
        if kind == b"ANMF":
            counter.add(int.from_bytes(data[start + 12 : start + 15], "little") / 1000)
        elif kind == b"ICCP" and length <= MAX_ICC_BYTES:
            colour = IccProfile(data[start : start + length])
        elif kind == b"EXIF":
            orientation = orientation_of(data[start : start + length])
        position = start + length + (length & 1)
    return Outline(
        width=size[0],
        height=size[1],
        orientation=orientation,
        frames=max(1, counter.frames),
        duration_s=counter.animated_s,
        colour=colour,
        pixels=data,
    )


def canvas_size(data: bytes) -> tuple[int, int] | None:
    """Width and height, from the first chunk: it says so in each of the three kinds of WebP. None when it does not."""
    kind, header = data[12:16], data[20:30]
    if kind == b"VP8X" and len(header) == 10:
        return 1 + int.from_bytes(header[4:7], "little"), 1 + int.from_bytes(header[7:10], "little")
    if kind == b"VP8 " and len(header) == 10 and header[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(header[6:8], "little") & 0x3FFF, int.from_bytes(header[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and header[:1] == b"\x2f" and len(header) >= 5:
        bits = int.from_bytes(header[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
