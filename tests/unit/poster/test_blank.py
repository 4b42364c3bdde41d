"""What counts as a blank frame."""

from __future__ import annotations

import random

import pytest

from avion_media.media.poster.frame import SAMPLE_BYTES, SAMPLE_SIDE, is_blank


@pytest.mark.parametrize("grey", [0, 16, 128, 255])
def test_a_flat_frame_is_blank(grey: int) -> None:
    assert is_blank(bytes([grey]) * SAMPLE_BYTES)


def test_noise_on_black_is_blank() -> None:
    noise = random.Random(1)
    assert is_blank(bytes(max(0, round(noise.gauss(16, 2))) for _ in range(SAMPLE_BYTES)))


def test_a_small_logo_on_black_is_blank() -> None:
    assert is_blank(bytes([255]) * 15 + bytes(SAMPLE_BYTES - 15))


def test_a_picture_is_not_blank() -> None:
    gradient = bytes(128 + column for _ in range(SAMPLE_SIDE) for column in range(SAMPLE_SIDE))
    assert not is_blank(gradient)
    assert not is_blank(bytes([200]) * 100 + bytes(SAMPLE_BYTES - 100))
