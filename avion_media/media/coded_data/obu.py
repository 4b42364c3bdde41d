"""AV1 (AV1 Bitstream & Decoding Process Specification): open bitstream units, of which metadata become padding."""

from __future__ import annotations

from collections.abc import Iterator

from avion_media.media.coded_data.changes import Change, change, is_needed_t35

_METADATA, _PADDING = 5, 15
_RESERVED = frozenset((0, *range(9, 15)))
_LIGHT_LEVEL, _MASTERING_DISPLAY, _SCALABILITY, _T35 = 1, 2, 3, 4
_NEEDED = frozenset((_LIGHT_LEVEL, _MASTERING_DISPLAY, _SCALABILITY))
_TYPE_BITS, _HAS_EXTENSION, _HAS_SIZE = 0x78, 0x04, 0x02


def changes(data: bytes, position: int) -> Iterator[Change]:
    """What to overwrite in the units from ``position`` on. One that is cut off ends it."""
    end = len(data)
    while position < end:
        header = data[position]
        start = position + (2 if header & _HAS_EXTENSION else 1)
        if header & _HAS_SIZE:
            size, start = _leb128(data, start)
        else:
            size = end - start  # the last one
        if size < 0 or start + size > end:
            return
        kind = header >> 3 & 15
        if kind in (_PADDING, *_RESERVED) or (kind == _METADATA and not _is_needed(data[start : start + size])):
            head = bytes((header & ~_TYPE_BITS & 0xFF | _PADDING << 3,)) + data[position + 1 : start]
            yield from change(data, position, head + (bytes(size - 1) + b"\x80" if size else b""))
        position = start + size


def _is_needed(content: bytes) -> bool:
    kind, position = _leb128(content, 0)
    return is_needed_t35(content[position : position + 16]) if kind == _T35 else kind in _NEEDED


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """A number and what follows it; -1 when it is cut off."""
    value = 0
    for index in range(8):
        if position + index >= len(data):
            return -1, position
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, position + index + 1
    return -1, position
