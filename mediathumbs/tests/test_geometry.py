"""Display matrices, pixel aspects and sizes."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import pytest
from av.video.frame import VideoFrame
from PIL import Image, ImageOps

from mediascrub.bounds import shown_size
from mediascrub.picture import turned_size
from mediathumbs.poster import orientation_of, orientation_of_frame

ONE = 1 << 16
# A picture of three pixels by two, its corners named; each case says where they go.
PICTURE = ["ab.", "cd."]


def _matrix(a: int, b: int, c: int, d: int) -> list[int]:
    return [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]


def _apply(orientation: int, rows: list[str]) -> list[str]:
    """By Pillow, which knows Exif's numbering."""
    image = Image.frombytes("L", (len(rows[0]), len(rows)), "".join(rows).encode())
    image.getexif()[0x0112] = orientation
    turned = ImageOps.exif_transpose(image)
    text = turned.tobytes().decode()
    return [text[start : start + turned.width] for start in range(0, len(text), turned.width)]


def _apply_matrix(matrix: list[int], rows: list[str]) -> list[str]:
    """By the definition: (x, y) goes to (ax + cy, bx + dy), then everything is shifted to start at zero."""
    a, b, c, d = (each // ONE for each in (matrix[0], matrix[1], matrix[3], matrix[4]))
    moved = {(a * x + c * y, b * x + d * y): letter for y, row in enumerate(rows) for x, letter in enumerate(row)}
    xs, ys = sorted({x for x, _ in moved}), sorted({y for _, y in moved})
    return ["".join(moved[x, y] for x in xs) for y in ys]


@pytest.mark.parametrize(
    "matrix",
    [
        *(_matrix(a, 0, 0, d) for a in (1, -1) for d in (1, -1)),
        *(_matrix(0, b, c, 0) for b in (1, -1) for c in (1, -1)),
    ],
)
def test_all_eight_orientations_are_read_right(matrix: list[int]) -> None:
    assert _apply(orientation_of(matrix), PICTURE) == _apply_matrix(matrix, PICTURE)


def test_the_matrix_of_a_phone_held_upright_turns_clockwise() -> None:
    assert orientation_of(_matrix(0, 1, -1, 0)) == 6


@pytest.mark.parametrize(("degrees", "expected"), [(10, 1), (41, 1), (50, 6), (130, 6), (140, 3), (230, 8)])
def test_other_angles_go_to_the_nearest_quarter_turn(degrees: int, expected: int) -> None:
    turn = complex(0, 1) ** (degrees / 90)
    cosine, sine = int(turn.real * ONE), int(turn.imag * ONE)
    assert orientation_of([cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30]) == expected


def test_a_degenerate_matrix_is_ignored() -> None:
    assert orientation_of([0] * 9) == 1


def test_a_matrix_beside_unknown_data_is_read_as_an_angle() -> None:
    """PyAV gives no side data of a frame that has some without a name, as that of videos for two eyes may have."""

    class Frame:
        rotation = -90

        @property
        def side_data(self) -> None:
            raise ValueError("34 is not a valid Type")

    assert orientation_of_frame(cast("VideoFrame", Frame())) == 6


def test_pixels_become_square_before_sides_are_swapped() -> None:
    assert turned_size(shown_size(800, 640, Fraction(64, 45)), 1) == (1138, 640)
    assert turned_size(shown_size(800, 640, Fraction(64, 45)), 6) == (640, 1138)
    assert turned_size(shown_size(720, 480, Fraction(8, 9)), 3) == (640, 480)
    assert turned_size(shown_size(1, 480, Fraction(1, 10)), 1) == (1, 480)


@pytest.mark.parametrize("absurd", [Fraction(1, 11), Fraction(11), Fraction(1_000_000)])
def test_an_absurd_aspect_counts_as_square(absurd: Fraction) -> None:
    assert turned_size(shown_size(800, 640, absurd), 1) == (800, 640)
