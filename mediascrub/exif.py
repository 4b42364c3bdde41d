"""The two facts in an Exif block that change how a picture is shown, and the smallest block that states them.

Only the tag in IFD0 counts. XMP (`tiff:Orientation`) does not: browsers ignore it, and the original loses it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

EXIF_PREFIX = b"Exif\x00\x00"

_ORIENTATION = 0x0112
_EXIF_IFD = 0x8769
_COLOR_SPACE = 0xA001
_INTEROPERABILITY_IFD = 0xA005
_INTEROPERABILITY_INDEX = 0x0001
_BYTE, _ASCII, _SHORT, _LONG = 1, 2, 3, 4
_UNCALIBRATED = 0xFFFF
# "DCF optional": the way in which cameras say Adobe RGB without embedding a profile.
_ADOBE_RGB_INDEX = b"R03\x00"
_ENTRY = struct.Struct(">HHI4s")  # tag, type, count, and the value or its offset
_DIRECTORY_BYTES = 6  # besides its entries
_HEADER = b"MM\x00*" + struct.pack(">I", 8)  # the first directory follows
_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
_INTEGERS = {_BYTE: "B", _SHORT: "H", _LONG: "I"}
_Entry = tuple[int, int, bytes]  # type, count, and the value or its offset
_ABSENT: _Entry = (0, 0, b"")


@dataclass(frozen=True, slots=True)
class ExifFacts:
    """``orientation`` as in TIFF, 1 (upright) to 8; ``adobe_rgb`` if the samples are Adobe RGB by DCF's rule."""

    orientation: int = 1
    adobe_rgb: bool = False


def read_exif(block: memoryview) -> ExifFacts:
    """Return the facts of an Exif block, with or without prefix. Never raises: unreadable facts count as absent."""
    while bytes(block[: len(EXIF_PREFIX)]) == EXIF_PREFIX:
        block = block[len(EXIF_PREFIX) :]
    order = _BYTE_ORDERS.get(bytes(block[:4]))
    if order is None or len(block) < 8:
        return ExifFacts()
    main = _entries(block, order, struct.unpack_from(f"{order}I", block, 4)[0])
    details = _entries(block, order, _number(main, _EXIF_IFD, order))
    interoperability = _entries(block, order, _number(details, _INTEROPERABILITY_IFD, order))
    orientation = _number(main, _ORIENTATION, order)
    # Browsers accept an orientation of the standard's type only.
    is_turned = main.get(_ORIENTATION, _ABSENT)[0] == _SHORT and 1 <= orientation <= 8
    index = interoperability.get(_INTEROPERABILITY_INDEX, _ABSENT)[2]
    is_adobe_rgb = _number(details, _COLOR_SPACE, order) == _UNCALIBRATED and index == _ADOBE_RGB_INDEX
    return ExifFacts(orientation if is_turned else 1, is_adobe_rgb)


def _entries(block: memoryview, order: str, offset: int) -> dict[int, _Entry]:
    """Return the entries of the directory at ``offset``, by tag, as far as they are present. Offset 0: none."""
    entries: dict[int, _Entry] = {}
    if 8 <= offset <= len(block) - 2:
        (count,) = struct.unpack_from(f"{order}H", block, offset)
        table = block[offset + 2 :][: count * _ENTRY.size]
        for tag, *entry in struct.iter_unpack(f"{order}HHI4s", table[: len(table) // _ENTRY.size * _ENTRY.size]):
            entries.setdefault(tag, tuple(entry))  # the first of equal tags counts
    return entries


def _number(entries: dict[int, _Entry], tag: int, order: str) -> int:
    """Return the single integer with that tag, or 0 if there is none."""
    kind, count, value = entries.get(tag, _ABSENT)
    if count != 1 or kind not in _INTEGERS:
        return 0
    number: int = struct.unpack_from(order + _INTEGERS[kind], value)[0]
    return number


def minimal_exif(facts: ExifFacts) -> bytes:
    """Return a block (without prefix) with these facts and nothing else; empty if both are the default."""
    upright = facts.orientation == 1
    main = [] if upright else [_ENTRY.pack(_ORIENTATION, _SHORT, 1, struct.pack(">H", facts.orientation))]
    if not facts.adobe_rgb:
        return _HEADER + _directory(main) if main else b""
    details_offset = len(_HEADER) + _DIRECTORY_BYTES + (len(main) + 1) * _ENTRY.size
    interoperability_offset = details_offset + _DIRECTORY_BYTES + 2 * _ENTRY.size
    main.append(_ENTRY.pack(_EXIF_IFD, _LONG, 1, struct.pack(">I", details_offset)))
    details = [
        _ENTRY.pack(_COLOR_SPACE, _SHORT, 1, struct.pack(">H", _UNCALIBRATED)),
        _ENTRY.pack(_INTEROPERABILITY_IFD, _LONG, 1, struct.pack(">I", interoperability_offset)),
    ]
    interoperability = [_ENTRY.pack(_INTEROPERABILITY_INDEX, _ASCII, 4, _ADOBE_RGB_INDEX)]
    return _HEADER + _directory(main) + _directory(details) + _directory(interoperability)


def _directory(entries: list[bytes]) -> bytes:
    return struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)
