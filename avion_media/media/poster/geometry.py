"""From coded pixels to the picture as displayed: display matrix and sample aspect ratio, each applied once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_SQUARE: Final = Fraction(1)
# Anamorphic formats lie well within; beyond is damage or malice, and players show such video with square pixels.
_MAX_ASPECT: Final = Fraction(10)


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
    """The sample aspect ratio that ffprobe writes as ``64:45``; square when unknown or absurd."""
    width, separator, height = (text or "").partition(":")
    if not (separator and width.isdigit() and height.isdigit()) or int(width) == 0 or int(height) == 0:
        return _SQUARE
    aspect = Fraction(int(width), int(height))
    return aspect if 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT else _SQUARE


def displayed_size(width: int, height: int, aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Width and height of the picture as displayed: pixels are made square by their width."""
    square = max(1, round(width * aspect)), height
    return square[::-1] if orientation.swaps_sides else square


def fit(size: tuple[int, int], longest_edge: int) -> tuple[int, int]:
    """``size`` scaled so that its longest edge is at most ``longest_edge``; never enlarged, never zero."""
    longest = max(size)
    if longest <= longest_edge:
        return size
    width, height = (max(1, round(side * longest_edge / longest)) for side in size)
    return width, height
