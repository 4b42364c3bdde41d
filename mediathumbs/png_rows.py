"""PNG files with the same rows in another form, for decoders."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

from deflate import crc32

from mediascrub import Picture
from mediascrub.png import CHUNK_OVERHEAD, SIGNATURE, chunks, make_chunk

_MAX_PIXEL_BYTES = 8  # of a pixel, uncompressed: RGBA of 16 bits
_PIECE_BYTES = 1 << 20
_PLAIN = b"\x08\x02\x00\x00\x00"  # of IHDR: 8 bits of red, green and blue, not interlaced
_LAST_FILTER = 4
_STORED_BYTES = 65_535  # of a block of deflate that is not compressed


def with_an_end(picture: Picture) -> Picture:
    """Return a picture whose compressed pixels end correctly, with all rows that are present.

    Some encoders write no last block or no checksum. Browsers accept that, because they draw each row when it arrives.
    Our decoder refuses it, because it needs the end; it still detects missing rows. Raises `zlib.error` for damage,
    which without that end only the checksums of the original's chunks show.
    """
    for each in chunks(memoryview(picture.original)):
        is_complete = each.kind == b"IDAT" and len(each.whole) == CHUNK_OVERHEAD + len(each.payload)
        if is_complete and crc32(each.whole[4:-4]) != int.from_bytes(each.whole[-4:], "big"):
            raise zlib.error("a wrong checksum")
    *others, pixels, end = chunks(memoryview(picture.still))
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
    ended = make_chunk(b"IDAT", *compressed, deflater.flush())
    return replace(picture, still=b"".join((SIGNATURE, *(each.whole for each in others), ended, end.whole)))


def with_stored_rows(
    picture: Picture, inflated: Callable[[memoryview, int], bytes | bytearray]
) -> list[bytes | memoryview]:
    """Return the parts of a file of a plain picture (`_PLAIN`, opaque): rows not compressed, without checksums.

    ``inflated`` gets the compressed rows and their full length. Raises `ValueError` for any other picture, or if rows
    are missing, or have an unknown filter, which libav would ignore.
    """
    header, *others, pixels, end = chunks(memoryview(picture.still))
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
    return [SIGNATURE, header.whole, head, *stored, bytes(4), end.whole]
