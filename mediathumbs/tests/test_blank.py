"""What counts as a blank frame."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from mediathumbs.poster import is_blank

SIDE = 32


def _frame(grey: bytes) -> Image.Image:
    return Image.frombytes("L", (SIDE, SIDE), grey).convert("RGB")


@pytest.mark.parametrize("grey", [0, 16, 128, 255])
def test_a_flat_frame_is_blank(grey: int) -> None:
    assert is_blank(Image.new("RGB", (640, 360), (grey, grey, grey)))


def test_noise_on_black_is_blank() -> None:
    noise = random.Random(1)
    assert is_blank(_frame(bytes(max(0, round(noise.gauss(16, 2))) for _ in range(SIDE**2))))


def test_a_small_logo_on_black_is_blank() -> None:
    assert is_blank(_frame(bytes([255]) * 15 + bytes(SIDE**2 - 15)))


def test_a_picture_is_not_blank() -> None:
    assert not is_blank(_frame(bytes(128 + column for _ in range(SIDE) for column in range(SIDE))))
    assert not is_blank(_frame(bytes([200]) * 100 + bytes(SIDE**2 - 100)))
