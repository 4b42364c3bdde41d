"""Properties of items and of sample entries: those that a picture needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from mediascrub.coded_data import CODINGS, Change
from mediascrub.errors import corrupt
from mediascrub.icc import neutral_colr
from mediascrub.isobmff import Box, clean_aperture, codes, make_box
from mediascrub.mp4.contents import kept_content
from mediascrub.picture import CodePoints, Colour, IccProfile

# The largest number of a property that an item can refer to.
MAX_PROPERTIES = 0x7FFF
ChangesOf = Callable[[bytes], Iterable[Change]]
_KEPT = codes("a1lx a1op amve auxC auxi av1C ccst clap clli colr hvcC imir irot ispe lsel mdcv pasp pixi")


def kept_property(box: Box) -> bytes:
    """Return the property to keep, as a whole box; empty if it is not on the list."""
    kept = kept_content(box) if box.type in _KEPT else b""
    return make_box(box.type, kept) if kept else b""


def is_alpha(box: Box) -> bool:
    """Return whether an auxiliary type (``auxC`` of an item, ``auxi`` of a track) marks the picture as transparency."""
    return box.type in (b"auxC", b"auxi") and bool(kept_content(box))


def changes_of_coded(kind: bytes, properties: Iterable[Box]) -> ChangesOf:
    """Return the function that yields the changes in coded data of an item or a track of that kind."""
    coding = CODINGS.get(kind.decode("latin-1"))
    private = next((bytes(each.content) for each in properties if each.type in (b"hvcC", b"av1C")), b"")
    return partial(coding.changes_of_sample, private) if coding else lambda _: ()


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
    cropped: bool


def looks_of(properties: Iterable[Box]) -> Appearance:
    """Read the properties of an item or of a sample entry, with transforms in order. Raises `ScrubError` (corrupt)."""
    extent = upright = (0, 0)
    quarters, mirrored, cropped = 0, None, False
    profile: Colour | None = None
    points: Colour | None = None
    for box in properties:
        if box.type == b"ispe" and extent == (0, 0):
            width, height = box.integers("II", 4)
            extent = upright = width, height
        elif box.type == b"clap":
            clean = clean_aperture(box)
            uncropped, upright = upright, (int(clean[0] + 0.5), int(clean[1] + 0.5)) if clean else upright
            cropped = cropped or upright != uncropped
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
    return Appearance(extent, upright, _orientation(quarters, mirrored), profile or points, cropped)


def _orientation(quarters: int, mirrored: int | None) -> int:
    """Return the orientation after turns of 90 degrees anticlockwise, and then a reflection at an axis of ``imir``."""
    if mirrored is None:
        return (1, 8, 3, 6)[quarters]
    top_and_bottom, left_and_right = ((4, 2), (5, 7), (2, 4), (7, 5))[quarters]
    return left_and_right if mirrored else top_and_bottom
