"""PNG and APNG: picture, palette, transparency, colour and animation chunks stay, up to IEND.

Nothing but the ICC profile is inflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mediascrub.credentials import find_credentials
from mediascrub.errors import corrupt
from mediascrub.exif import ExifFacts, minimal_exif, read_exif
from mediascrub.formats import Format
from mediascrub.icc import MAX_ICC_BYTES, neutral_profile
from mediascrub.picture import (
    BT709_PRIMARIES,
    Chromaticities,
    CodePoints,
    Colour,
    IccProfile,
    Peek,
    Picture,
    bounded_parts,
    playing_time,
)
from mediascrub.ranges import Range

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp\x00\x00"  # the keyword, and that the text is not compressed
CHUNK_OVERHEAD = 12  # length, type and CRC
_PALETTE_COLOUR_TYPE = 3
_PROFILE_NAME = b"icc\x00"
_PIXELS = frozenset((b"IDAT", b"fdAT"))
# The only lengths that the standard allows; another length means other data.
_LENGTH = {"acTL": 8, "cHRM": 32, "cICP": 4, "cLLI": 8, "fcTL": 26, "gAMA": 4, "mDCV": 24, "pHYs": 9, "sRGB": 1}
_LENGTHS = {b"bKGD": range(1, 7), b"PLTE": range(3, 769), b"sBIT": range(1, 5), b"tRNS": range(1, 257)}
_LENGTHS |= {kind.encode(): range(length, length + 1) for kind, length in _LENGTH.items()}
_OF_ANIMATIONS = frozenset((b"fdAT", b"fcTL"))
_REPEATED = _OF_ANIMATIONS | {b"IDAT"}
_ALLOWED = _PIXELS | _LENGTHS.keys() | {b"iCCP", b"IEND"}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk in memory."""

    kind: bytes
    offset: int  # in the file
    payload: memoryview
    whole: memoryview  # with length, type and CRC


def peek(head: bytes) -> Peek | None:
    """See `PictureFormat`."""
    if len(head) < 24:
        return None
    return Peek(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))


def read(view: memoryview) -> Picture:
    """See `PictureFormat`. The original ends with IEND, unless the file ends inside or before it.

    The first frame of an APNG is the picture that still viewers show. The decoder gets only the chunks that pixels
    depend on, so that no picture is refused because of the others.
    """
    series = chunks(view)
    header = _header(next(series, None))
    before, behind = [memoryview(SIGNATURE), header.whole], list[memoryview]()  # Exif belongs before the first IDAT
    first: dict[bytes, memoryview] = {}  # the part to keep of the chunks, by type
    pixels: list[memoryview] = []
    exif: ExifFacts | None = None
    manifest: Chunk | None = None
    xmp: bytes | memoryview = b""
    delays_s: list[float] = []
    for _, chunk in zip(bounded_parts(), series, strict=False):
        if chunk.kind == b"eXIf" and exif is None:  # it can also follow the picture; only the orientation counts
            exif = ExifFacts(read_exif(chunk.payload).orientation)
        elif chunk.kind == b"iTXt" and not xmp and chunk.payload[: len(_XMP)] == _XMP:
            xmp = chunk.payload[len(_XMP) :]
        elif chunk.kind == b"caBX" and manifest is None:
            manifest = chunk
        is_stray = not first.get(b"acTL") if chunk.kind in _OF_ANIMATIONS else bool(chunk.kind == b"acTL" and pixels)
        if is_stray or chunk.kind not in _ALLOWED or (chunk.kind in first and chunk.kind not in _REPEATED):
            continue
        kept = memoryview(_kept(chunk))
        first.setdefault(chunk.kind, kept)
        if chunk.kind == b"IDAT":
            pixels.append(chunk.payload)
        elif chunk.kind == b"fcTL" and kept:
            numerator, denominator = struct.unpack_from(">HH", chunk.payload, 20)
            delays_s.append(float(numerator) / (denominator or 100))
        (behind if pixels else before).append(kept)
    if not pixels:
        raise corrupt("no IDAT")
    if header.payload[9] == _PALETTE_COLOUR_TYPE and not first.get(b"PLTE"):
        raise corrupt("a picture of a palette without one")
    decoded_by = [first.get(kind, memoryview(b"")) for kind in (b"PLTE", b"tRNS")]
    facts = exif or ExifFacts()
    minimal = minimal_exif(facts)
    original = b"".join((*before, make_chunk(b"eXIf", minimal) if minimal else b"", *behind))
    place = [] if manifest is None else [Range(manifest.offset, len(manifest.whole))]
    parts = [] if manifest is None else [Range(manifest.offset + 8, len(manifest.payload))]
    return Picture(
        format=Format.PNG,
        width=int.from_bytes(header.payload[0:4], "big"),
        height=int.from_bytes(header.payload[4:8], "big"),
        orientation=facts.orientation,
        frames=max(1, len(delays_s)),
        duration_s=playing_time(delays_s),
        colour=_colour({kind: whole[8:-4] for kind, whole in first.items()}),
        original=original,
        # All pixels go into one chunk, because each chunk takes the decoder time.
        still=b"".join((SIGNATURE, header.whole, *decoded_by, *_parts_of(b"IDAT", *pixels), make_chunk(b"IEND"))),
        xmp=xmp,
        credentials=find_credentials(view, parts, place, lambda rest: rest == original),
    )


def _header(chunk: Chunk | None) -> Chunk:
    """Read IHDR. Decoders refuse unknown methods of compression and filtering; only 0 is defined."""
    if chunk is None or chunk.kind != b"IHDR" or len(chunk.payload) != 13:
        raise corrupt("no IHDR at the start")
    if any(chunk.payload[10:12]) or chunk.payload[12] > 1:
        raise corrupt("an unknown method of compression, filtering or interlacing")
    return chunk


def chunks(view: memoryview) -> Iterator[Chunk]:
    """Yield the chunks up to IEND. A chunk that is cut off is the last one, and is yielded only if it has pixels."""
    if view[:8] != SIGNATURE:
        raise corrupt("no PNG signature")
    offset = len(SIGNATURE)
    while offset + 8 <= len(view):
        length, kind = int.from_bytes(view[offset : offset + 4], "big"), bytes(view[offset + 4 : offset + 8])
        end = offset + CHUNK_OVERHEAD + length
        if end <= len(view) or kind in _PIXELS:
            yield Chunk(kind, offset, view[offset + 8 : offset + 8 + length], view[offset:end])
        if kind == b"IEND":
            return
        offset = end


def _kept(chunk: Chunk) -> bytes | memoryview:
    """Return the part to keep of a chunk: all of it, nothing, or its profile under a neutral name."""
    if chunk.kind in _PIXELS:
        return chunk.whole
    if chunk.kind == b"IEND":
        return make_chunk(b"IEND")
    if chunk.kind == b"iCCP":
        return _profile(chunk.payload)
    return chunk.whole if len(chunk.payload) in _LENGTHS.get(chunk.kind, ()) else b""


def _profile(payload: memoryview) -> bytes:
    # The name has 1 to 79 characters. After its NUL follow the method (0: deflate) and the profile.
    _, nul, rest = bytes(payload).partition(b"\x00")
    if not nul or rest[:1] != b"\x00":
        return b""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], MAX_ICC_BYTES)
    except zlib.error:
        return b""
    neutral = neutral_profile(profile) if inflater.eof else b""
    if neutral != profile or inflater.unused_data:
        rest = b"\x00" + zlib.compress(neutral, zlib.Z_BEST_COMPRESSION)
    return make_chunk(b"iCCP", _PROFILE_NAME, rest) if neutral else b""


def make_chunk(kind: bytes, *parts: bytes | memoryview) -> bytes:
    """Return a chunk with its length and checksum."""
    return b"".join(_parts_of(kind, *parts))


def _parts_of(kind: bytes, *parts: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    from deflate import crc32  # here, because only this needs the native library: other files are read without it

    checksum = crc32(kind)
    for part in parts:
        checksum = crc32(part, checksum)
    return (sum(map(len, parts)).to_bytes(4, "big"), kind, *parts, checksum.to_bytes(4, "big"))


def _colour(content: dict[bytes, memoryview]) -> Colour | None:
    """Return the colour, in this precedence: cICP, iCCP, sRGB, cHRM with gAMA (PNG, third edition, section 4.3)."""
    cicp = content.get(b"cICP")
    if cicp and cicp[2] == 0:
        return CodePoints(primaries=cicp[0], transfer=cicp[1])
    if profile := content.get(b"iCCP"):
        return IccProfile(zlib.decompress(profile[len(_PROFILE_NAME) + 1 :]))
    gamma, chromaticities = content.get(b"gAMA"), content.get(b"cHRM")
    if content.get(b"sRGB") or not gamma or not 0 < int.from_bytes(gamma, "big") <= 1_000_000:
        return None
    exponent = 100_000 / int.from_bytes(gamma, "big")
    if not chromaticities:
        return Chromaticities(BT709_PRIMARIES, exponent)
    values = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
    white, red, green, blue = zip(values[0::2], values[1::2], strict=True)
    return Chromaticities((white, red, green, blue), exponent)
