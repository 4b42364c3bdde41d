"""What AVIF says outside its coded pictures: colour code points and playing time.

Sizes, rotation and frame count come from libavif, which parses without decoding. It keeps these two to itself in
Pillow, so they are read here from the boxes, and a box that is not as it should be is as good as absent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from avion_media.media.image.colour import CodePoints
from avion_media.media.image.outline import bounded_parts


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, first content byte and end of each box between ``start`` and ``end``."""
    position = start
    for _ in bounded_parts(100_000):
        if position + 8 > end:
            return
        size, header = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        stop = end if size == 0 else position + size
        if stop < position + header or stop > end:
            return
        yield data[position + 4 : position + 8], position + header, stop
        position = stop


def _find(data: bytes, path: tuple[bytes, ...], start: int, end: int) -> tuple[int, int] | None:
    """Content of the first box at ``path``; ``meta`` is stepped into past its version."""
    for name in path:
        for kind, first, stop in _boxes(data, start, end):
            if kind == name:
                start, end = first + (4 if name == b"meta" else 0), stop
                break
        else:
            return None
    return start, end


def still_code_points(data: bytes) -> CodePoints | None:
    """Primaries and transfer (``colr`` of kind ``nclx``) of the primary item; None when it names none."""
    for kind, start, stop in _primary_properties(data):
        if kind == b"colr" and data[start : start + 4] == b"nclx" and stop - start >= 10:
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            return CodePoints(primaries, transfer)
    return None


def still_extent(data: bytes) -> tuple[int, int] | None:
    """Width and height (``ispe``) that the primary item is said to have; None when it does not say."""
    for kind, start, stop in _primary_properties(data):
        if kind == b"ispe" and stop - start >= 12:
            width, height = struct.unpack_from(">II", data, start + 4)
            return width, height
    return None


def _primary_properties(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, first content byte and end of each property of the primary item."""
    meta = _find(data, (b"meta",), 0, len(data))
    properties = _find(data, (b"iprp", b"ipco"), *meta) if meta else None
    if meta is None or properties is None:
        return
    wanted = _primary_indices(data, meta)
    for index, each in enumerate(_boxes(data, *properties), 1):
        if index in wanted:
            yield each


def _primary_indices(data: bytes, meta: tuple[int, int]) -> frozenset[int]:
    """The 1-based indices of the properties that the primary item has."""
    primary = _find(data, (b"pitm",), *meta)
    association = _find(data, (b"iprp", b"ipma"), *meta)
    if primary is None or association is None:
        return frozenset()
    try:
        long_id = data[primary[0]] > 0
        (item,) = struct.unpack_from(">I" if long_id else ">H", data, primary[0] + 4)
        return _associated(data[association[0] : association[1]], item)
    except (struct.error, IndexError):
        return frozenset()  # cut off


def _associated(ipma: bytes, item: int) -> frozenset[int]:
    id_format = ">I" if ipma[0] >= 1 else ">H"
    wide = ipma[3] & 1
    (entries,) = struct.unpack_from(">I", ipma, 4)
    position = 8
    for _ in range(min(entries, len(ipma))):
        (this,) = struct.unpack_from(id_format, ipma, position)
        position += struct.calcsize(id_format)
        count = ipma[position]
        position += 1
        if this == item:
            indices = struct.unpack_from(f">{count}{'H' if wide else 'B'}", ipma, position)
            return frozenset(index & (0x7FFF if wide else 0x7F) for index in indices)
        position += count * (2 if wide else 1)
    return frozenset()


def track_duration_s(data: bytes) -> float:
    """How long the first track of an image sequence plays, in seconds; 0.0 when there is none or it does not say."""
    media_header = _find(data, (b"moov", b"trak", b"mdia", b"mdhd"), 0, len(data))
    if media_header is None:
        return 0.0
    try:
        wide = data[media_header[0]] == 1
        timescale, duration = struct.unpack_from(">IQ" if wide else ">II", data, media_header[0] + (20 if wide else 12))
    except (struct.error, IndexError):
        return 0.0
    unknown = (1 << (64 if wide else 32)) - 1
    return float(duration) / timescale if timescale and duration != unknown else 0.0
