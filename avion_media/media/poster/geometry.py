"""From coded pixels to the picture as displayed: display matrix and sample aspect ratio, each applied once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from avion_media.media.bounds import shown_size

_SQUARE: Final = Fraction(1)


@dataclass(frozen=True, slots=True)
class Orientation:
    """Mirror left to right first (if ``mirrored``), then turn clockwise by ``degrees`` (0, 90, 180 or 270)."""

    degrees: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.degrees in {90, 270}

    def filters(self) -> list[tuple[str, tuple[str, ...]]]:
        """ffmpeg filters (name, arguments) that bring the coded picture upright."""
        turn: dict[int, list[tuple[str, tuple[str, ...]]]] = {
            0: [],
            90: [("transpose", ("clock",))],
            180: [("hflip", ()), ("vflip", ())],
            270: [("transpose", ("cclock",))],
        }
        return [("hflip", ()), *turn[self.degrees]] if self.mirrored else turn[self.degrees]


UPRIGHT: Final = Orientation()


def orientation_of(matrix: Sequence[int]) -> Orientation:
    """The orientation that a display matrix (nine numbers, row by row) asks for.

    Turns that are no multiple of 90 degrees go to the nearest one, as players do; a degenerate matrix means upright.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    mirrored = a * d - b * c < 0
    if a * d - b * c == 0:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        # x' = ax, y' = dy
        return Orientation(0 if d > 0 else 180, mirrored)
    # x' = cy, y' = bx; seen after the mirroring, b has the other sign
    return Orientation(90 if (b > 0) != mirrored else 270, mirrored)


def sample_aspect(text: str | None) -> Fraction:
    """The sample aspect ratio that ffprobe writes as ``64:45``; square when unknown."""
    width, separator, height = (text or "").partition(":")
    if not (separator and width.isdigit() and height.isdigit()) or int(width) == 0 or int(height) == 0:
        return _SQUARE
    return Fraction(int(width), int(height))


def displayed_size(width: int, height: int, aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Width and height of the picture as displayed: pixels are made square by their width."""
    square = shown_size(width, height, aspect)
    return square[::-1] if orientation.swaps_sides else square
