"""Properties of items and of sample entries: those that a picture needs, and their maximum lengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mediascrub.errors import corrupt
from mediascrub.icc import neutral_colr
from mediascrub.isobmff import Box, clean_aperture, codes, make_box
from mediascrub.picture import CodePoints, Colour, IccProfile

# The largest number of a property that an item can refer to.
MAX_PROPERTIES = 0x7FFF
_UNBOUNDED = 1 << 32
# Longest payload in bytes. A longer one has other data at its end.
_LENGTHS = {b"a1lx": 13, b"cclv": 49, b"clap": 32, b"clli": 4, b"ispe": 12, b"lsel": 2, b"mdcv": 24, b"pixi": 260}
_LENGTHS |= dict.fromkeys(codes("a1op imir irot"), 1) | dict.fromkeys(codes("amve ccst pasp"), 8)
_LENGTHS |= dict.fromkeys(codes("auxC auxi"), 128) | dict.fromkeys(codes("av1C colr hvcC lhvC"), _UNBOUNDED)
_AUXILIARY_TYPES = (b"auxC", b"auxi")
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


def kept_property(box: Box) -> bytes:
    """Return the property to keep, as a whole box; empty if it is not on the list."""
    if box.type not in _LENGTHS:
        return b""
    payload = box.content[: _LENGTHS[box.type]]
    if box.type == b"colr":
        kept = neutral_colr(payload)
        return make_box(box.type, kept) if kept else b""
    if box.type in _AUXILIARY_TYPES and not is_alpha(box):
        return b""
    return make_box(box.type, payload)


def is_alpha(box: Box) -> bool:
    """Return whether an auxiliary type (``auxC`` of an item, ``auxi`` of a track) marks the picture as transparency."""
    if box.type not in _AUXILIARY_TYPES:
        return False
    urn, nul, _ = bytes(box.content[4 : _LENGTHS[box.type]]).partition(b"\x00")
    return bool(nul) and urn in _ALPHA


def numbered(properties: list[Box], index: int) -> Box:
    """Return the property with that number, counted from 1."""
    if index > len(properties):
        raise corrupt("an item has a property that does not exist")
    return properties[index - 1]


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a picture is shown: ``extent`` as stored, ``upright_size`` after all transforms, Exif ``orientation``."""

    extent: tuple[int, int]
    upright_size: tuple[int, int]
    orientation: int
    colour: Colour | None


def looks_of(properties: Iterable[Box]) -> Appearance:
    """Read the properties of an item or of a sample entry, with transforms in order. Raises `ScrubError` (corrupt)."""
    extent = upright = (0, 0)
    quarters, mirrored = 0, None
    profile: Colour | None = None
    points: Colour | None = None
    for box in properties:
        if box.type == b"ispe" and extent == (0, 0):
            width, height = box.integers("II", 4)
            extent = upright = width, height
        elif box.type == b"clap":
            clean = clean_aperture(box)
            upright = (int(clean[0] + 0.5), int(clean[1] + 0.5)) if clean else upright
        elif box.type == b"irot":
            quarters = box.integers("B")[0] & 3
            upright = upright[::-1] if quarters & 1 else upright
        elif box.type == b"imir":
            mirrored = box.integers("B")[0] & 1
        elif box.type == b"colr" and (kept := neutral_colr(box.content)):
            if kept[:4] not in (b"nclx", b"nclc"):
                profile = profile or IccProfile(kept[4:])
            elif len(kept) >= 10:
                points = points or CodePoints(int.from_bytes(kept[4:6], "big"), int.from_bytes(kept[6:8], "big"))
    return Appearance(extent, upright, _orientation(quarters, mirrored), profile or points)


def _orientation(quarters: int, mirrored: int | None) -> int:
    """Return the orientation after turns of 90 degrees anticlockwise, and then a reflection at an axis of ``imir``."""
    if mirrored is None:
        return (1, 8, 3, 6)[quarters]
    top_and_bottom, left_and_right = ((4, 2), (5, 7), (2, 4), (7, 5))[quarters]
    return left_and_right if mirrored else top_and_bottom
