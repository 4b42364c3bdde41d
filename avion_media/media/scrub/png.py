"""PNG and APNG: picture, palette, transparency, colour and animation chunks stay, up to IEND. Nothing is inflated
but the ICC profile.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from avion_media.media.exif import ExifFacts, minimal_exif, read_exif
from avion_media.media.scrub.icc import MAX_ICC_BYTES, neutral_profile
from avion_media.media.scrub.structure import corrupt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK_OVERHEAD = 12  # length, type and CRC
_PIXELS = frozenset((b"IDAT", b"fdAT"))
# The only lengths that the standard allows; another length is somebody's own data.
_LENGTHS: dict[bytes, range] = {
    b"acTL": range(8, 9),
    b"bKGD": range(1, 7),
    b"cHRM": range(32, 33),
    b"cICP": range(4, 5),
    b"cLLI": range(8, 9),
    b"fcTL": range(26, 27),
    b"gAMA": range(4, 5),
    b"mDCV": range(24, 25),
    b"PLTE": range(3, 769),
    b"pHYs": range(9, 10),
    b"sBIT": range(1, 5),
    b"sRGB": range(1, 2),
    b"tRNS": range(1, 257),
}
_REPEATED = frozenset((b"IDAT", b"fdAT", b"fcTL"))
_ALLOWED = _PIXELS | _LENGTHS.keys() | {b"IHDR", b"iCCP", b"IEND"}


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    payload: memoryview
    whole: memoryview  # with length, type and CRC


def scrub_png(view: memoryview) -> bytes:
    """See `scrub_image`. Ends with IEND, except where the bytes ran out inside or before it."""
    exif = _chunk(b"eXIf", minimal_exif(_orientation(view)))
    out = bytearray(_SIGNATURE)
    seen: set[bytes] = set()
    for chunk in _chunks(view):
        if not seen and (chunk.kind != b"IHDR" or len(chunk.payload) != 13):
            raise corrupt("no IHDR at the start")
        if chunk.kind not in _ALLOWED:
            continue
        if chunk.kind == b"IDAT" and b"IDAT" not in seen and len(exif) > _CHUNK_OVERHEAD:
            out += exif
        if chunk.kind in _REPEATED or chunk.kind not in seen:
            out += _kept(chunk)
        seen.add(chunk.kind)
    if b"IDAT" not in seen:
        raise corrupt("no IDAT")
    return bytes(out)


def _chunks(view: memoryview) -> Iterator[_Chunk]:
    """The chunks up to IEND; one that is cut off is the last, and only given out when it holds pixels."""
    if view[:8] != _SIGNATURE:
        raise corrupt("no PNG signature")
    offset = len(_SIGNATURE)
    while offset + 8 <= len(view):
        length, kind = int.from_bytes(view[offset : offset + 4], "big"), bytes(view[offset + 4 : offset + 8])
        end = offset + _CHUNK_OVERHEAD + length
        if end <= len(view) or kind in _PIXELS:
            yield _Chunk(kind, view[offset + 8 : offset + 8 + length], view[offset:end])
        if kind == b"IEND":
            return
        offset = end


def _orientation(view: memoryview) -> ExifFacts:
    """Exif may also follow the picture, so it takes a walk of its own. Only the orientation counts in a PNG."""
    for chunk in _chunks(view):
        if chunk.kind == b"eXIf":
            return ExifFacts(read_exif(chunk.payload).orientation)
    return ExifFacts()


def _kept(chunk: _Chunk) -> bytes | memoryview:
    """What stays of a chunk: all of it, nothing, or its profile under a neutral name."""
    if chunk.kind in _PIXELS or chunk.kind == b"IHDR":
        return chunk.whole
    if chunk.kind == b"IEND":
        return _chunk(b"IEND", b"")
    if chunk.kind == b"iCCP":
        return _profile(chunk.payload)
    return chunk.whole if len(chunk.payload) in _LENGTHS.get(chunk.kind, ()) else b""


def _profile(payload: memoryview) -> bytes:
    # The name is 1 to 79 characters; behind its NUL follow the method (0: deflate) and the profile.
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
    return _chunk(b"iCCP", b"icc\x00" + rest) if neutral else b""


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + kind + payload + zlib.crc32(kind + payload).to_bytes(4, "big")
