"""The structure of a PNG file: its chunks, and a copy that holds nothing but pixels.

The decoder gets only the chunks that pixels depend on. So text, compressed text bombs, animation frames and private
chunks never reach it, and a picture is not refused for them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.exif import read_exif
from avion_media.media.image.colour import BT709_PRIMARIES, Chromaticities, CodePoints, Colour, IccProfile
from avion_media.media.image.outline import FrameCounter, Outline, bounded_parts
from avion_media.media.scrub.icc import MAX_ICC_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE_COLOUR_TYPE = 3
_PIXELS = frozenset((b"IDAT", b"fdAT"))


@dataclass(frozen=True, slots=True)
class PngOutline(Outline):
    """``transparent`` is the one colour that counts as clear, in samples of 8 bits: one for gray, three for RGB.

    Palettes carry their transparency in ``pixels``.
    """

    transparent: tuple[int, ...] | None = None


def walk_png(data: bytes, max_frames: int) -> PngOutline:
    """Outline a PNG or APNG. Of an APNG the picture that every still viewer shows counts as the first frame."""
    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        raise Rejected(Reason.CORRUPT, "no PNG header")
    header = data[16:29]
    colour_type = header[9]
    kept: list[bytes | memoryview] = [SIGNATURE]
    pixels: list[memoryview] = []
    first: dict[bytes, bytes] = {}
    counter = FrameCounter(max_frames)
    palette = False
    for kind, content, whole in _chunks(data):
        if kind == b"IDAT":
            pixels.append(content)
        elif kind in (b"IHDR", b"PLTE") or (kind == b"tRNS" and colour_type == _PALETTE_COLOUR_TYPE):
            kept.append(whole)
            palette |= kind == b"PLTE"
        elif kind == b"fcTL":
            counter.add(_delay_s(content))
        elif kind in _ANCILLARY:
            first.setdefault(kind, bytes(content))
    if colour_type == _PALETTE_COLOUR_TYPE and not palette:
        raise Rejected(Reason.CORRUPT, "PNG of a palette without one")
    return PngOutline(
        width=int.from_bytes(header[0:4], "big"),
        height=int.from_bytes(header[4:8], "big"),
        orientation=read_exif(memoryview(first.get(b"eXIf", b""))).orientation,
        frames=max(1, counter.frames),
        duration_s=counter.animated_s,
        colour=_colour(first),
        pixels=b"".join((*kept, *_chunk(b"IDAT", pixels), *_chunk(b"IEND", []))),
        transparent=_transparent_colour(first.get(b"tRNS"), header[8], colour_type),
    )


_ANCILLARY = frozenset((b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"tRNS"))


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Type, content and whole of each chunk up to IEND, without copying them. One of pixels may be cut off."""
    view = memoryview(data)
    position = 8
    for _ in bounded_parts():
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            return
        end = position + 8 + length
        if end + 4 <= len(view) or kind in _PIXELS:
            yield kind, view[position + 8 : end], view[position : end + 4]
        position = end + 4


def _chunk(kind: bytes, parts: Sequence[memoryview]) -> list[bytes | memoryview]:
    """One chunk, in pieces. Pixels go into one however many they came in: the decoder takes time for each."""
    checksum = zlib.crc32(kind)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [struct.pack(">I", sum(map(len, parts))), kind, *parts, struct.pack(">I", checksum)]


def _delay_s(frame_control: memoryview) -> float:
    if len(frame_control) < 24:
        raise Rejected(Reason.CORRUPT, "APNG frame control is cut off")
    numerator, denominator = struct.unpack_from(">HH", frame_control, 20)
    return float(numerator) / (denominator or 100)


def _transparent_colour(content: bytes | None, bit_depth: int, colour_type: int) -> tuple[int, ...] | None:
    """The clear colour of a gray or RGB picture, scaled to the 8 bits that the decoder gives."""
    channels = {0: 1, 2: 3}.get(colour_type)
    if content is None or channels is None or len(content) < 2 * channels:
        return None
    samples = struct.unpack_from(f">{channels}H", content)
    if bit_depth == 16:
        return tuple(sample >> 8 for sample in samples)
    largest = (1 << bit_depth) - 1
    return tuple(min(sample, largest) * 255 // largest for sample in samples)


def _colour(first: dict[bytes, bytes]) -> Colour | None:
    """By precedence: cICP, iCCP, sRGB, then cHRM with gAMA (PNG, third edition, section 4.3)."""
    cicp = first.get(b"cICP", b"")
    if len(cicp) == 4 and cicp[2] == 0:
        return CodePoints(primaries=cicp[0], transfer=cicp[1])
    profile = _inflate_profile(first.get(b"iCCP", b""))
    if profile is not None:
        return IccProfile(profile)
    gamma, chromaticities = first.get(b"gAMA", b""), first.get(b"cHRM", b"")
    if b"sRGB" in first or len(gamma) != 4 or not 0 < int.from_bytes(gamma, "big") <= 1_000_000:
        return None
    exponent = 100_000 / int.from_bytes(gamma, "big")
    if len(chromaticities) != 32:
        return Chromaticities(BT709_PRIMARIES, exponent)
    values = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
    white, red, green, blue = zip(values[0::2], values[1::2], strict=True)
    return Chromaticities((white, red, green, blue), exponent)


def _inflate_profile(content: bytes) -> bytes | None:
    """The ICC profile in an iCCP chunk; None when there is none, or it is broken or too large."""
    _name, separator, rest = content.partition(b"\0")
    if not separator or rest[:1] != b"\0":
        return None
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], MAX_ICC_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None
