"""A change of coded data, which registered messages stay, and a number as in these messages."""

from __future__ import annotations

from collections.abc import Sequence

Change = tuple[int, bytes]
"""Offset, and the bytes to write there."""

_US, _CHINA = b"\xb5", b"\x26"
_KEPT_T35 = (
    _US + b"\x00\x31GA94\x03",  # ATSC A/53: captions, CEA-608 and CEA-708
    _US + b"\x00\x31DTG1",  # active format description
    _US + b"\x00\x2f\x03",  # captions, as DirecTV sends them
    _US + b"\x00\x3c\x00\x01\x04",  # SMPTE ST 2094-40: HDR10+
    _US + b"\x00\x3b\x00\x00\x08\x00",  # Dolby Vision in AV1
    _US + b"\x00\x3a",  # SL-HDR
    _US + b"\x58\x90\x00\x01",  # AOM: film grain
    _CHINA + b"\x00\x04\x00\x05",  # HDR Vivid
)


def is_needed_t35(message: bytes) -> bool:
    """Return whether a message registered by ITU-T T.35 carries captions, or is needed for the right colours."""
    return message.startswith(_KEPT_T35)


def change(data: bytes, offset: int, new: bytes) -> tuple[Change, ...]:
    """Return the change of the bytes at ``offset`` to ``new``, unless they are equal."""
    return () if data.startswith(new, offset) else ((offset, new),)


def number_of_255s(data: bytes, bytes_at: Sequence[int], at: int) -> tuple[int, int]:
    """Return a number (255s and the next byte, at ``bytes_at`` of ``data``; may be cut off) and the index after it."""
    value = 0
    while at < len(bytes_at):
        byte = data[bytes_at[at]]
        value, at = value + byte, at + 1
        if byte != 255:
            break
    return value, at
