"""The structure of a WebP file: its RIFF chunks."""

from __future__ import annotations

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.exif import read_exif
from avion_media.media.image.colour import IccProfile
from avion_media.media.image.outline import FrameCounter, Outline, bounded_parts
from avion_media.media.scrub.icc import MAX_ICC_BYTES
from avion_media.media.scrub.webp import webp_body, webp_chunks


def walk_webp(data: bytes, max_frames: int) -> Outline:
    """Outline a WebP: canvas, frames of an animation, orientation, ICC profile, of the chunks that the scrub reads."""
    body = webp_body(memoryview(data))
    size = canvas_size(data)
    if size is None:
        raise Rejected(Reason.CORRUPT, "no WebP bitstream header")
    counter = FrameCounter(max_frames)
    profile: memoryview | None = None
    exif: memoryview | None = None
    if data[12:16] == b"VP8X":  # without, a file is its first chunk
        for _, (kind, content) in zip(bounded_parts(), webp_chunks(body), strict=False):
            if kind == b"ANMF":
                counter.add(int.from_bytes(content[12:15], "little") / 1000)
            elif kind == b"ICCP" and profile is None:
                profile = content
            elif kind == b"EXIF" and exif is None:
                exif = content
    return Outline(
        width=size[0],
        height=size[1],
        orientation=read_exif(exif).orientation if exif else 1,
        frames=max(1, counter.frames),
        duration_s=counter.animated_s,
        colour=IccProfile(bytes(profile)) if profile and len(profile) <= MAX_ICC_BYTES else None,
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
