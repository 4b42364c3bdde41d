"""Messages inside coded video: changes stay inside the sample, and a second look finds nothing more to do."""

from __future__ import annotations

from mediascrub.coded_data import Change, Coding, motion_jpeg, nal, obu
from tests.fuzz.parser import parser_target

_CODINGS: tuple[Coding, ...] = (nal.H264, nal.HEVC, obu, motion_jpeg)
_MESSAGES = b"\x05\x14" + bytes(range(1, 21)) + b"\x04\x0c\xb5\x00\x31GA94\x03abcd" + b"\x80"
_SEEDS = tuple(
    bytes((_CODINGS.index(coding),)) + sample
    for coding, sample in (
        (nal.H264, len(_MESSAGES).to_bytes(4, "big")[:3] + bytes((len(_MESSAGES) + 1,)) + b"\x06" + _MESSAGES),
        (nal.HEVC, len(_MESSAGES).to_bytes(4, "big")[:3] + bytes((len(_MESSAGES) + 2,)) + b"\x4e\x01" + _MESSAGES),
        (nal.HEVC, bytes(21) + b"\x03\x02\xa7\x00\x01\x00\x08\x4e\x01\x05\x03abc\x80"),
        (nal.H264, b"\x01\x64\x00\x1f\xff\xe1\x00\x04\x67abc\x01\x00\x08\x06\x05\x04\0\0\x03\x01\x80"),
        (obu, b"\x12\x00\x2a\x08\x04\xb5\x00\x00\x01ab\x80\x7a\x03ab\x80"),
        (obu, b"\x12\x00\x2c\xff\xff\xff\xff\xb5\x00"),  # flags of av1C, and no unit after them
        (motion_jpeg, b"\xff\xd8\xff\xe1\x00\x0aExif\0\0ab\xff\xda\x00\x04abcd\xff\x00\xff\xd9text"),
    )
)


def _feed(data: bytes) -> None:
    if not data:  # the first byte chooses the coding
        return
    coding, sample = _CODINGS[data[0] % len(_CODINGS)], data[1:]
    scrubbed = _applied(sample, list(coding.changes_of_sample(sample, sample)))
    assert not list(coding.changes_of_sample(sample, scrubbed))
    scrubbed = _applied(sample, list(coding.changes_of_private(sample)))
    assert not list(coding.changes_of_private(scrubbed))


def _applied(sample: bytes, changes: list[Change]) -> bytes:
    result, position = bytearray(sample), 0
    for offset, new in changes:
        assert position <= offset < offset + len(new) <= len(sample)
        result[offset : offset + len(new)] = new
        position = offset + len(new)
    return bytes(result)


TARGET = parser_target("coded-data", lambda: _SEEDS, _feed, allowed=())
