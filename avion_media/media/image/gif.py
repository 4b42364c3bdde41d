"""The structure of a GIF file: its blocks, walked without decoding one frame."""

from __future__ import annotations

from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.image.outline import FrameCounter, Outline, bounded_parts

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9


@dataclass(frozen=True, slots=True)
class GifOutline(Outline):
    """``first_frame`` is the first frame's place on the canvas: left, top, right, bottom."""

    first_frame: tuple[int, int, int, int] = (0, 0, 0, 0)


def walk_gif(data: bytes, max_frames: int) -> GifOutline:
    """Outline a GIF. One that breaks off keeps the frames before the break; none at all is CORRUPT.

    The canvas grows to hold the first frame, as browsers (and Pillow) let it.
    """
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 13:
        raise Rejected(Reason.CORRUPT, "no GIF signature")
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    first_frame: tuple[int, int, int, int] | None = None
    counter = FrameCounter(max_frames)
    delay_s = 0.0
    control = pixels = b""  # the graphic control extension in force; what the decoder gets
    first_block = position = 13 + _palette_bytes(data[10])
    for _ in bounded_parts():
        kind = data[position] if position < len(data) else _TRAILER
        if kind == _EXTENSION and position + 2 < len(data):
            if data[position + 1] == _GRAPHIC_CONTROL and position + 8 <= len(data):
                control = data[position : position + 7] + b"\0"
                delay_s = int.from_bytes(control[4:6], "little") / 100
            position = _skip_sub_blocks(data, position + 2)
        elif kind == _IMAGE and position + 11 <= len(data):
            descriptor = data[position + 1 : position + 10]
            left, top, wide, high = (int.from_bytes(descriptor[at : at + 2], "little") for at in (0, 2, 4, 6))
            end = _skip_sub_blocks(data, position + 11 + _palette_bytes(descriptor[8]))
            if first_frame is None:
                first_frame = (left, top, left + wide, top + high)
                pixels = b"".join((data[:first_block], control, data[position:end], b";"))
            counter.add(delay_s)
            delay_s = 0.0
            position = end
        elif kind in (_EXTENSION, _IMAGE, _TRAILER):
            break  # the end, or cut off in the middle of a header
        else:
            position += 1  # padding between blocks, which decoders skip
    if first_frame is None:
        raise Rejected(Reason.CORRUPT, "GIF without a frame")
    return GifOutline(
        width=max(width, first_frame[2]),
        height=max(height, first_frame[3]),
        frames=counter.frames,
        duration_s=counter.animated_s,
        pixels=pixels,
        first_frame=first_frame,
    )


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_sub_blocks(data: bytes, position: int) -> int:
    """The position after the sub-blocks that begin at ``position`` (the end of the file when they are cut off)."""
    size = len(data)
    while position < size:
        length = data[position]
        position += length + 1
        if not length:
            break
    return position
