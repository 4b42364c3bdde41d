"""Properties of items and of sample entries: which ones a picture needs, and how long each may be."""

from __future__ import annotations

from avion_media.media.scrub.heif.boxes import Box, make_box
from avion_media.media.scrub.icc import neutral_colr
from avion_media.media.scrub.structure import corrupt

# The widest number of a property that an item can name.
MAX_PROPERTIES = 0x7FFF
_UNBOUNDED = 1 << 32
# Longest payload in bytes; what is longer carries somebody's own data behind it.
_LENGTHS = {
    b"a1lx": 13,
    b"a1op": 1,
    b"amve": 8,
    b"auxC": 128,
    b"auxi": 128,
    b"av1C": _UNBOUNDED,
    b"ccst": 8,
    b"cclv": 49,
    b"clap": 32,
    b"clli": 4,
    b"colr": _UNBOUNDED,
    b"hvcC": _UNBOUNDED,
    b"imir": 1,
    b"irot": 1,
    b"ispe": 12,
    b"lhvC": _UNBOUNDED,
    b"lsel": 2,
    b"mdcv": 24,
    b"pasp": 8,
    b"pixi": 260,
}
_AUXILIARY_TYPES = (b"auxC", b"auxi")
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


def kept_property(box: Box) -> bytes:
    """The property as it is kept, as a whole box; empty when it is not on the list."""
    if box.kind not in _LENGTHS:
        return b""
    payload = box.payload[: _LENGTHS[box.kind]]
    if box.kind == b"colr":
        kept = neutral_colr(payload)
        return make_box(box.kind, kept) if kept else b""
    if box.kind in _AUXILIARY_TYPES and not is_alpha(box):
        return b""
    return make_box(box.kind, payload)


def is_alpha(box: Box) -> bool:
    """Whether an auxiliary type (``auxC`` of an item, ``auxi`` of a track) says that the picture is transparency."""
    if box.kind not in _AUXILIARY_TYPES:
        return False
    urn, nul, _ = bytes(box.payload[4 : _LENGTHS[box.kind]]).partition(b"\x00")
    return bool(nul) and urn in _ALPHA


def numbered(properties: list[Box], index: int) -> Box:
    """The property with that number; they count from 1."""
    if index > len(properties):
        raise corrupt("an item has a property that does not exist")
    return properties[index - 1]
