"""ICC profiles (ICC.1:2022): the parts that a colour transform uses stay, at the same offsets and lengths.

Profiles of displays contain their maker and serial number, calibrated ones their date and owner, and makers add tags
of their own. So only the tags and types that describe colours by numbers are copied. Descriptions and copyright,
which every profile must have, become empty.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mediascrub.isobmff import codes

MAX_ICC_BYTES = 4 << 20
"""The largest CMYK profiles in use have 3 MB; a larger one is ignored like a broken one."""

_HEADER_BYTES = 128
_SIGNATURE = slice(36, 40)
_ENTRY = struct.Struct(">4sII")
_MAX_TAGS = 100  # as in Little CMS; profiles have about twenty
_DATE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)

# Not kept: the preferred module, the date, platform, device, creator, and the profile id.
_HEADER_STAYS = (slice(0, 4), slice(8, 24), _SIGNATURE, slice(46, 48), slice(63, 64), slice(64, 80))
_SPECTRAL = slice(100, 120)  # from version 5 on, else reserved

_TAGS = codes(
    "A2B0 A2B1 A2B2 A2B3 B2A0 B2A1 B2A2 B2A3 D2B0 D2B1 D2B2 D2B3 B2D0 B2D1 B2D2 B2D3 gamt pre0 pre1 pre2 "
    "rXYZ gXYZ bXYZ rTRC gTRC bTRC kTRC wtpt bkpt chad chrm cicp lumi rig0 rig2 clro"
)
_TYPES = codes("XYZ curv para sf32 uf32 sig chrm cicp mft1 mft2 mAB mBA mpet clro")
# Empty texts of the allowed types; all else in them is zeros.
_TEXTS = codes("desc cprt")
_EMPTY_TEXTS = {
    b"text": b"text" + bytes(4),
    b"desc": b"desc" + bytes(8),
    b"mluc": b"mluc" + struct.pack(">III", 0, 0, 12),  # no record, each of 12 bytes
}
# Kinds of ``colr`` boxes (ISO/IEC 14496-12, 12.1.5; QuickTime): profiles, and codes of so many bytes with their kind.
_COLR_PROFILES = (b"prof", b"rICC")
_COLR_CODES = {b"nclx": 11, b"nclc": 10}


class _Tag(NamedTuple):
    name: bytes
    offset: int
    size: int

    def overlaps(self, other: _Tag) -> bool:
        return self.offset < other.offset + other.size and other.offset < self.offset + self.size


def neutral_profile(profile: bytes | bytearray | memoryview) -> bytes:
    """Return the profile without what identifies a device or person, at the same length; empty if it is not usable."""
    # Other data under that name can be anything.
    if not _HEADER_BYTES <= len(profile) <= MAX_ICC_BYTES or profile[_SIGNATURE] != b"acsp":
        return b""
    neutral = bytearray(len(profile))
    for part in _HEADER_STAYS:
        neutral[part] = profile[part]
    neutral[24:36] = _DATE
    if profile[8] >= 5:
        neutral[_SPECTRAL] = profile[_SPECTRAL]
    tags = list(_tags(profile))
    colours = [tag for tag in tags if tag.name in _TAGS and _type(profile, tag) in _TYPES]
    if not colours:
        return b""
    for tag in colours:
        neutral[tag.offset : tag.offset + tag.size] = profile[tag.offset : tag.offset + tag.size]
    texts: list[_Tag] = []
    for tag in tags:
        empty = _EMPTY_TEXTS.get(_type(profile, tag)) if tag.name in _TEXTS else None
        if empty and len(empty) <= tag.size and not any(map(tag.overlaps, colours + texts)):
            texts.append(tag)
            neutral[tag.offset : tag.offset + len(empty)] = empty
    table = [tag for tag in tags if tag in colours or tag in texts]
    neutral[_HEADER_BYTES : _HEADER_BYTES + 4] = len(table).to_bytes(4, "big")
    for position, tag in enumerate(table):
        _ENTRY.pack_into(neutral, _HEADER_BYTES + 4 + position * _ENTRY.size, *tag)
    return bytes(neutral)


def neutral_parts(parts: Sequence[bytes | memoryview]) -> list[bytes]:
    """Return `neutral_profile` of a profile in parts, as parts of the same lengths; none if it is not usable."""
    profile = io.BytesIO(neutral_profile(b"".join(parts)))
    return [profile.read(len(part)) for part in parts] if profile.getbuffer() else []


def neutral_colr(content: bytes | memoryview) -> bytes:
    """Return the part to keep of a ``colr`` box's content, never longer than it; empty if the box must be removed."""
    kind = bytes(content[:4])
    if kind in _COLR_CODES:
        return bytes(content[: _COLR_CODES[kind]])
    profile = neutral_profile(content[4:]) if kind in _COLR_PROFILES else b""
    return kind + profile if profile else b""


def _tags(profile: bytes | bytearray | memoryview) -> Iterator[_Tag]:
    """Yield the entries whose data is after the table and inside the profile; readers ignore others."""
    end = min(int.from_bytes(profile[:4], "big"), len(profile))
    count = int.from_bytes(profile[_HEADER_BYTES : _HEADER_BYTES + 4], "big")
    start = _HEADER_BYTES + 4 + count * _ENTRY.size
    if count > _MAX_TAGS or start > end:
        return
    for position in range(count):
        tag = _Tag(*_ENTRY.unpack_from(profile, _HEADER_BYTES + 4 + position * _ENTRY.size))
        if start <= tag.offset <= tag.offset + tag.size <= end:
            yield tag


def _type(profile: bytes | bytearray | memoryview, tag: _Tag) -> bytes:
    return bytes(profile[tag.offset : tag.offset + min(tag.size, 4)])
