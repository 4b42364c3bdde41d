"""AV1 (AV1 Bitstream & Decoding Process Specification): open bitstream units. Metadata units become padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mediascrub.coded_data.changes import Change, change, is_needed_t35

_METADATA, _PADDING = 5, 15
_RESERVED = frozenset((0, *range(9, 15)))
_PICTURES = frozenset((3, 6, 8))  # a frame's header, a frame, a list of tiles
_LIGHT_LEVEL, _MASTERING_DISPLAY, _SCALABILITY, _T35 = 1, 2, 3, 4
_NEEDED = frozenset((_LIGHT_LEVEL, _MASTERING_DISPLAY, _SCALABILITY))
_FORBIDDEN, _TYPE_BITS, _HAS_EXTENSION, _HAS_SIZE = 0x80, 0x78, 0x04, 0x02
_FLAGS_BYTES = 4  # of ``av1C``, before its units


def changes_of_sample(private: bytes, sample: bytes) -> Iterator[Change]:
    """Yield the changes of a sample; none if it is not a series of units with a picture."""
    units = list(_units(sample, 0))
    if units and units[-1].end == len(sample) and any(unit.kind in _PICTURES for unit in units):
        yield from _changes(sample, units)


def changes_of_private(private: bytes) -> Iterator[Change]:
    """Yield the changes of an ``av1C``. What is not a unit is zeroed, and zeros are none."""
    units = [each for each in _units(private, _FLAGS_BYTES) if any(private[each.offset : each.end])]
    yield from _changes(private, units)
    end = units[-1].end if units else _FLAGS_BYTES
    if any(private[end:]):
        yield end, bytes(len(private) - end)


@dataclass(frozen=True, slots=True)
class _Unit:
    kind: int
    offset: int
    content: int
    end: int


def _units(data: bytes, position: int) -> Iterator[_Unit]:
    """Yield the units from ``position`` on, up to one that is cut off or is not a unit."""
    end = len(data)
    while position < end and not data[position] & _FORBIDDEN:
        header = data[position]
        start = position + (2 if header & _HAS_EXTENSION else 1)
        if header & _HAS_SIZE:
            size, start = _leb128(data, start)
        else:
            size = end - start  # the last one
        if size < 0 or start + size > end:
            return
        yield _Unit(header >> 3 & 15, position, start, start + size)
        position = start + size


def _changes(data: bytes, units: Iterable[_Unit]) -> Iterator[Change]:
    for unit in units:
        content = data[unit.content : unit.end]
        if unit.kind in (_PADDING, *_RESERVED) or (unit.kind == _METADATA and not _is_needed(content)):
            header = bytes((data[unit.offset] & ~_TYPE_BITS & 0xFF | _PADDING << 3,))
            head = header + data[unit.offset + 1 : unit.content]
            yield from change(data, unit.offset, head + (bytes(len(content) - 1) + b"\x80" if content else b""))


def _is_needed(content: bytes) -> bool:
    kind, position = _leb128(content, 0)
    return is_needed_t35(content[position : position + 16]) if kind == _T35 else kind in _NEEDED


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and the offset after it; -1 if it is cut off."""
    value = 0
    for index in range(8):
        if position + index >= len(data):
            return -1, position
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, position + index + 1
    return -1, position
