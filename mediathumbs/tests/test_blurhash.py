"""BlurHash against its definition, computed the slow way."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mediascrub import Format
from mediascrub.bounds import PictureBounds
from mediathumbs import ThumbnailSize, is_blurhash

from .made import process, quadrants, saved

Samples = npt.NDArray[np.float64]

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def values(text: str) -> list[int]:
    return [ALPHABET.index(character) for character in text]


def number(text: str) -> int:
    result = 0
    for value in values(text):
        result = result * 83 + value
    return result


def factor(linear: Samples, across: int, down: int) -> Samples:
    height, width, _ = linear.shape
    y, x = np.mgrid[0:height, 0:width]
    wave = np.cos(math.pi * across * x / width) * np.cos(math.pi * down * y / height)
    scale = (1 if across == down == 0 else 2) / (width * height)
    result: Samples = (linear * wave[:, :, None]).sum(axis=(0, 1)) * scale
    return result


def linear_light(image: Image.Image) -> Samples:
    samples = np.asarray(image, dtype=np.float64) / 255
    result: Samples = np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)
    return result


def test_it_follows_the_definition() -> None:
    image = quadrants(32, 24)
    hashed = process(saved(image, "PNG"), Format.PNG, [ThumbnailSize("only", 32)], PictureBounds()).blurhash
    across, down = 4, 3

    assert len(hashed) == 4 + 2 * across * down
    assert number(hashed[0]) == across - 1 + 9 * (down - 1)
    linear = linear_light(image)
    average = factor(linear, 0, 0)
    encoded = np.where(average <= 0.0031308, average * 12.92, 1.055 * average ** (1 / 2.4) - 0.055)
    found = number(hashed[2:6]).to_bytes(3, "big")
    assert np.abs(np.frombuffer(found, np.uint8) - encoded * 255).max() < 1.5  # luma and chroma are rounded too
    details = [factor(linear, i, j) for j in range(down) for i in range(across)][1:]
    largest = (number(hashed[1]) + 1) / 166
    assert largest == pytest.approx(float(np.abs(details).max()), abs=1 / 166)
    for index, detail in enumerate(details):
        quantised = number(hashed[6 + 2 * index : 8 + 2 * index])
        digits = quantised // 361, quantised // 19 % 19, quantised % 19
        for digit, value in zip(digits, detail, strict=True):
            expected = math.floor(math.copysign(math.sqrt(abs(value) / largest), value) * 9 + 9.5)
            assert abs(digit - max(0, min(18, expected))) <= 1


def test_black_has_the_hash_that_everybody_knows() -> None:
    black = saved(Image.new("RGB", (32, 24)), "PNG")
    found = process(black, Format.PNG, [ThumbnailSize("only", 32)], PictureBounds())
    assert found.blurhash == "L00000fQfQfQfQfQfQfQfQfQfQfQ"


@pytest.mark.parametrize(("size", "first"), [((300, 200), "L"), ((200, 300), "T"), ((200, 200), "L"), ((1, 1), "L")])
def test_the_longer_side_has_more_components(size: tuple[int, int], first: str) -> None:
    result = process(saved(quadrants(*size), "PNG"), Format.PNG, [ThumbnailSize("only", 100)], PictureBounds())
    assert result.blurhash[0] == first
    assert len(result.blurhash) == 28


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LEHV6nWB2yk8pyo0adR*.7kCMdnj", True),
        ("00OWt6", True),
        ("~" + "0" * 165, False),  # its first character says more than 9 x 9
        ("LEHV6nWB2yk8pyo0adR*.7kCMdn", False),
        ("LEHV6nWB2yk8pyo0adR*.7kCMdn ", False),
        ("", False),
    ],
)
def test_a_blurhash_is_as_long_as_it_says(text: str, expected: bool) -> None:
    assert is_blurhash(text) is expected
