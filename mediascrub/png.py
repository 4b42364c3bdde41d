"""PNG and APNG: picture, palette, transparency, colour and animation chunks stay, up to IEND.

Nothing but the ICC profile is inflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from deflate import crc32

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

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PIXEL_BYTES = 8  # of a pixel, uncompressed: RGBA of 16 bits
_PIECE_BYTES = 1 << 20
_CHUNK_OVERHEAD = 12  # length, type and CRC
_PALETTE_COLOUR_TYPE = 3
_PLAIN = b"\x08\x02\x00\x00\x00"  # of IHDR: 8 bits of red, green and blue, not interlaced
_LAST_FILTER = 4
_STORED_BYTES = 65_535  # of a block of deflate that is not compressed
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
class _Chunk:
    kind: bytes
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
    chunks = _chunks(view)
    header = _header(next(chunks, None))
    before, behind = bytearray(_SIGNATURE + header.whole), bytearray()  # Exif belongs in between, before the first IDAT
    first: dict[bytes, memoryview] = {}  # the part to keep of the chunks, by type
    pixels: list[memoryview] = []
    exif: ExifFacts | None = None
    delays_s: list[float] = []
    for _, chunk in zip(bounded_parts(), chunks, strict=False):
        if chunk.kind == b"eXIf" and exif is None:  # it can also follow the picture; only the orientation counts
            exif = ExifFacts(read_exif(chunk.payload).orientation)
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
        (behind if pixels else before).extend(kept)
    if not pixels:
        raise corrupt("no IDAT")
    if header.payload[9] == _PALETTE_COLOUR_TYPE and not first.get(b"PLTE"):
        raise corrupt("a picture of a palette without one")
    decoded_by = [first.get(kind, memoryview(b"")) for kind in (b"PLTE", b"tRNS")]
    facts = exif or ExifFacts()
    minimal = minimal_exif(facts)
    content = {kind: whole[8:-4] for kind, whole in first.items()}
    return Picture(
        format=Format.PNG,
        width=int.from_bytes(header.payload[0:4], "big"),
        height=int.from_bytes(header.payload[4:8], "big"),
        orientation=facts.orientation,
        frames=max(1, len(delays_s)),
        duration_s=playing_time(delays_s),
        colour=_colour(content),
        original=b"".join((before, _chunk(b"eXIf", minimal) if minimal else b"", behind)),
        # All pixels go into one chunk, because each chunk takes the decoder time.
        still=b"".join((_SIGNATURE, header.whole, *decoded_by, _chunk(b"IDAT", *pixels), _chunk(b"IEND"))),
    )


def with_an_end(picture: Picture) -> Picture:
    """Return a picture whose compressed pixels end correctly, with all rows that are present.

    Some encoders write no last block or no checksum. Browsers accept that, because they draw each row when it arrives.
    Our decoder refuses it, because it needs the end; it still detects missing rows. Raises `zlib.error` for damage,
    which without that end only the checksums of the original's chunks show.
    """
    for each in _chunks(memoryview(picture.original)):
        is_complete = each.kind == b"IDAT" and len(each.whole) == _CHUNK_OVERHEAD + len(each.payload)
        if is_complete and crc32(each.whole[4:-4]) != int.from_bytes(each.whole[-4:], "big"):
            raise zlib.error("a wrong checksum")
    *others, pixels, end = _chunks(memoryview(picture.still))
    zlib.decompressobj().decompress(pixels.payload[:2])  # raises unless it is zlib's header
    inflater, deflater = zlib.decompressobj(-zlib.MAX_WBITS), zlib.compressobj(zlib.Z_BEST_SPEED)
    # Upper limits of the length of a row and of the number of rows, interlaced or not.
    left = (picture.width * _MAX_PIXEL_BYTES + 2) * (2 * picture.height + 8)
    compressed: list[bytes] = []
    data: memoryview | bytes = pixels.payload[2:]
    while left > 0 and (rows := inflater.decompress(data, min(left, _PIECE_BYTES))):
        compressed.append(deflater.compress(rows))
        data = inflater.unconsumed_tail
        left -= len(rows)
    ended = _chunk(b"IDAT", *compressed, deflater.flush())
    return replace(picture, still=b"".join((_SIGNATURE, *(each.whole for each in others), ended, end.whole)))


def with_stored_rows(picture: Picture, inflated: Callable[[memoryview, int], bytes | bytearray]) -> bytes:
    """Return a plain picture (`_PLAIN`, opaque) as a file whose rows are not compressed, and without checksums.

    ``inflated`` gets the compressed rows and their full length. Raises `ValueError` for any other picture, or if rows
    are missing, or have an unknown filter, which libav would ignore.
    """
    header, *others, pixels, end = _chunks(memoryview(picture.still))
    if others or header.payload[8:] != _PLAIN:
        raise ValueError("not plain")
    row_bytes = 1 + 3 * picture.width
    size_bytes = row_bytes * picture.height
    rows = inflated(pixels.payload, size_bytes)
    if len(rows) < size_bytes or max(rows[::row_bytes]) > _LAST_FILTER:
        raise ValueError("not all rows are there")
    blocks = [memoryview(rows)[start : start + _STORED_BYTES] for start in range(0, size_bytes, _STORED_BYTES)]
    stored = [part for block in blocks for part in (struct.pack("<xHH", len(block), len(block) ^ 0xFFFF), block)]
    head = (2 + sum(map(len, stored))).to_bytes(4, "big") + b"IDAT\x78\x01"
    return b"".join((_SIGNATURE, header.whole, head, *stored, bytes(4), end.whole))


def _header(chunk: _Chunk | None) -> _Chunk:
    """Read IHDR. Decoders refuse unknown methods of compression and filtering; only 0 is defined."""
    if chunk is None or chunk.kind != b"IHDR" or len(chunk.payload) != 13:
        raise corrupt("no IHDR at the start")
    if any(chunk.payload[10:12]) or chunk.payload[12] > 1:
        raise corrupt("an unknown method of compression, filtering or interlacing")
    return chunk


def _chunks(view: memoryview) -> Iterator[_Chunk]:
    """Yield the chunks up to IEND. A chunk that is cut off is the last one, and is yielded only if it has pixels."""
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


def _kept(chunk: _Chunk) -> bytes | memoryview:
    """Return the part to keep of a chunk: all of it, nothing, or its profile under a neutral name."""
    if chunk.kind in _PIXELS:
        return chunk.whole
    if chunk.kind == b"IEND":
        return _chunk(b"IEND")
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
    return _chunk(b"iCCP", _PROFILE_NAME, rest) if neutral else b""


def _chunk(kind: bytes, *parts: bytes | memoryview) -> bytes:
    checksum = crc32(kind)
    for part in parts:
        checksum = crc32(part, checksum)
    return b"".join((sum(map(len, parts)).to_bytes(4, "big"), kind, *parts, checksum.to_bytes(4, "big")))


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
