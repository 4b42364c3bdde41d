"""H.264 (ITU-T H.264) and HEVC (ITU-T H.265): their units, and the messages (SEI) among them.

Units have a length before each if the codec's configuration says so, else start codes (Annex B), as in libav. A
message becomes a filler message (type 3), which both standards allow in every place of a message. A unit of a type
that decoders do not need becomes a filler unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mediascrub.coded_data.changes import Change, change, is_needed_t35, number_of_255s

_FILLER_MESSAGE, _REGISTERED_MESSAGE = 3, 4
# What decoders and displays use: buffering, timing (0, 1), pan-scan (2), recovery points (6), fields and film grain
# (18, 19), frame packing and orientation (45, 47), parameter sets in force (129), decoding units (130), picture hashes
# (132), mastering display, light levels and other HDR (137, 144, 147 to 149), projections of all-around video (150 to
# 156), depth and alpha (165, 177). Not time codes (136), not user data (5), not what is registered elsewhere (4).
_NEEDED_MESSAGES = frozenset(
    (0, 1, 2, 6, 18, 19, 45, 47, 128, 129, 130, 131, 132, 137, 144, 147, 148, 149, *range(150, 157), 165, 177)
)
_ESCAPE = re.compile(rb"\0\0\x03")  # a 3 after two zeros, which is not part of the content
_START_CODE = re.compile(rb"\0\0\x01")
_BASIC_PROFILES = (66, 77, 88)  # only other configurations continue behind the parameter sets, as libav writes them
_Unit = tuple[int, int]  # its first byte, and the byte behind it


@dataclass(frozen=True, slots=True)
class Codec:
    """H.264 or HEVC."""

    length_at: int  # the place of the size of a unit's length in the codec's configuration (``avcC``, ``hvcC``)
    header_bytes: int  # of a unit
    messages: frozenset[int]  # types of units
    filler: int  # type of a unit
    needless: frozenset[int]  # types of units that decoders do not need
    parameters: frozenset[int]  # types of units in a configuration, beside messages

    def length_size(self, private: bytes) -> int:
        """Return the bytes of the length before each unit; 0 if ``private`` is no configuration: then start codes."""
        if self.header_bytes == 1:
            configured = private.startswith(b"\1")
        else:  # its own version was 0 in drafts
            configured = len(private) > 3 and (any(private[:2]) or private[2] > 1)
        if not configured:
            return 0
        return (private[self.length_at] & 3) + 1 if len(private) > self.length_at else 4

    def changes_of_sample(self, private: bytes, sample: bytes) -> Iterator[Change]:
        """Yield the changes in the units of a sample; none if one exceeds it, because then these are not units."""
        length_size = self.length_size(private)
        units = _after_lengths(sample, length_size) if length_size else []
        if not units and (not length_size or sample.startswith((b"\0\0\1", b"\0\0\0\1"))):
            units = _after_start_codes(sample)
        for start, end in units:
            yield from self._changes_of_unit(sample, start, end, self.needless)

    def changes_of_private(self, private: bytes, arrays_at: int = 22) -> Iterator[Change]:
        """Yield the changes of the codec's configuration; that of HEVC has its arrays of units at ``arrays_at``."""
        if not self.length_size(private):
            units, end = _after_start_codes(private), len(private)
        elif self.header_bytes == 1:
            units, end = _units_of_avcc(private)
        else:
            units, end = _units_of_hvcc(private, arrays_at)
        needless = frozenset(range(64)) - self.parameters
        for unit in units:
            yield from self._changes_of_unit(private, *unit, needless)
        if any(private[end:]):
            yield end, bytes(len(private) - end)

    def _changes_of_unit(self, data: bytes, start: int, end: int, needless: frozenset[int]) -> Iterator[Change]:
        content = start + self.header_bytes
        if end < content:
            return
        kind = data[start] & 0x1F if self.header_bytes == 1 else data[start] >> 1 & 0x3F
        if kind in self.messages:
            yield from _changes_of_messages(data, content, end)
        elif kind in needless:
            # In H.264 the rest of the first byte, a reference count, must be 0.
            first = self.filler if self.header_bytes == 1 else self.filler << 1 | data[start] & 1
            filler = b"\xff" * (end - content - 1) + b"\x80" if end > content else b""
            yield from change(data, start, bytes((first,)) + data[start + 1 : content] + filler)


# 28 and 30 are Dolby Vision's, as 62 and 63 of HEVC.
H264 = Codec(
    length_at=4,
    header_bytes=1,
    messages=frozenset((6,)),
    filler=12,
    needless=frozenset((0, 12, *range(22, 28), 29, 31)),
    parameters=frozenset((7, 8, 13, 15)),
)
HEVC = Codec(
    length_at=21,
    header_bytes=2,
    messages=frozenset((39, 40)),
    filler=38,
    needless=frozenset((*range(10, 16), *range(22, 32), 38, *range(41, 62))),
    parameters=frozenset((32, 33, 34)),
)


def _after_lengths(sample: bytes, length_size: int) -> list[_Unit]:
    units: list[_Unit] = []
    position, end = 0, len(sample)
    while position + length_size < end:
        start = position + length_size
        position = start + int.from_bytes(sample[position:start], "big")
        if position > end:
            return []
        units.append((start, position))
    return units


def _after_start_codes(data: bytes) -> list[_Unit]:
    """Return the units without the zeros behind each (ITU-T H.264, annex B)."""
    starts = [found.end() for found in _START_CODE.finditer(data)]
    ends = [*(start - 3 for start in starts[1:]), len(data)]
    return [(start, start + len(data[start:end].rstrip(b"\0"))) for start, end in zip(starts, ends, strict=False)]


def _units_of_avcc(private: bytes) -> tuple[list[_Unit], int]:
    """Return the units of an ``avcC``, and its end."""
    units: list[_Unit] = []
    position = 5
    for mask in (0x1F, 0xFF):  # sets of the sequence, of pictures
        count = private[position] & mask if position < len(private) else 0
        position = _add_units(units, private, position + 1, count)
    if position + 4 <= len(private) and private[1] not in _BASIC_PROFILES:
        position = _add_units(units, private, position + 4, private[position + 3])
    return units, position


def _units_of_hvcc(private: bytes, arrays_at: int) -> tuple[list[_Unit], int]:
    units: list[_Unit] = []
    position = arrays_at + 1
    for _ in range(private[arrays_at] if arrays_at < len(private) else 0):
        count = int.from_bytes(private[position + 1 : position + 3], "big")
        position = _add_units(units, private, position + 3, count)
    return units, position


def _add_units(units: list[_Unit], private: bytes, position: int, count: int) -> int:
    """Add ``count`` units, each after two bytes of length, up to one that is cut off. Return the end offset."""
    for _ in range(count):
        start = position + 2
        end = start + int.from_bytes(private[position:start], "big")
        if end > len(private):
            break
        position = end
        units.append((start, end))
    return position


def _changes_of_messages(data: bytes, start: int, end: int) -> Iterator[Change]:
    """Walk the messages of one unit. Other bytes up to the unit's stop bit become filler too."""
    content = data[start:end].rstrip(b"\0")
    escapes = [start + found.start() + 2 for found in _ESCAPE.finditer(content)]
    unit = range(start, start + len(content) - content.endswith(b"\x80"))
    left_out = frozenset(escapes)
    bytes_at: Sequence[int] = [position for position in unit if position not in left_out] if escapes else unit
    at, total = 0, len(bytes_at)
    while at < total:
        type_at = at
        kind, at = number_of_255s(data, bytes_at, at)
        size, at = number_of_255s(data, bytes_at, at)
        last = min(at + size, total)
        first, behind = bytes_at[type_at], bytes_at[last - 1] + 1
        payload = bytes(data[bytes_at[index]] for index in range(at, min(last, at + 16)))
        start_of_payload = bytes_at[at] if at < last else behind
        filler = _filler(data, start_of_payload, behind, escapes)
        needed = is_needed_t35(payload) if kind == _REGISTERED_MESSAGE else kind in _NEEDED_MESSAGES
        if not needed and not data.startswith(filler, start_of_payload):
            # After two zeros a 3 would be an escape. The message then keeps its type and loses only its content.
            keeps_type = kind >= 255 or data[max(start, first - 2) : first] == b"\0\0"
            head = data[first : first + 1] if keeps_type else bytes((_FILLER_MESSAGE,))
            yield first, head + data[first + 1 : start_of_payload] + filler
        at = last


def _filler(data: bytes, first: int, behind: int, escapes: list[int]) -> bytes:
    """Return filler: 255s, except for escapes, which keep the length, and the 1 behind each (0 to 3 are allowed)."""
    filler = bytearray(b"\xff" * (behind - first))
    for escape in escapes:
        for position in range(max(first, escape - 2), min(behind, escape + 1)):
            filler[position - first] = data[position]
        if first <= escape + 1 < behind:
            filler[escape + 1 - first] = 1
    return bytes(filler)
