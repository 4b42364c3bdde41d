"""BlurHash (https://github.com/woltapp/blurhash, Algorithm.md): a picture's blurred colours in some 30 characters.

It is in plain Python, because for a picture of at most 32 pixels it takes a millisecond, and so the service does not
need numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from avion_media.media.thumbnails.matrix_profile import srgb_curve

if TYPE_CHECKING:  # the service checks hashes without an imaging library
    from PIL import Image

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
_LINEAR = tuple(srgb_curve(level / 255) for level in range(256))
_SIZE_FLAGS = range(81)
_HEAD_DIGITS, _DETAIL_DIGITS = 6, 2  # size, largest detail and average; then each further component

Factor = tuple[float, float, float]


def blurhash(image: Image.Image, across: int, down: int) -> str:
    """Return the hash of a small RGB picture with ``across`` x ``down`` components (1 to 9 each).

    The time grows with the number of pixels, so reduce the picture to about 32 pixels first.
    """
    if not (1 <= across <= 9 and 1 <= down <= 9):
        raise ValueError("a BlurHash has 1 to 9 components each way")
    (average, *details) = _factors(image, across, down)
    size_flag = _base83(across - 1 + (down - 1) * 9, 1)
    largest = max((abs(value) for factor in details for value in factor), default=0.0)
    step = max(0, min(82, math.floor(largest * 166 - 0.5))) if details else 0
    scale = (step + 1) / 166 if details else 1.0
    return "".join(
        (size_flag, _base83(step, 1), _encode_average(average), *(_encode_detail(d, scale) for d in details))
    )


def is_blurhash(text: str) -> bool:
    """Return whether ``text`` is a hash: only its characters, and as many as the first one says."""
    if len(text) < _HEAD_DIGITS or not set(text) <= set(_ALPHABET):
        return False
    flag = _ALPHABET.index(text[0])
    across, down = flag % 9 + 1, flag // 9 + 1
    return flag in _SIZE_FLAGS and len(text) == _HEAD_DIGITS + _DETAIL_DIGITS * (across * down - 1)


def _factors(image: Image.Image, across: int, down: int) -> list[Factor]:
    """Return the cosine transform in linear light: first of the rows of the picture, then of the columns."""
    width, height = image.size
    samples = image.convert("RGB").tobytes()
    channels = [[_LINEAR[level] for level in samples[channel::3]] for channel in range(3)]
    horizontal, vertical = _cosines(across, width), _cosines(down, height)
    per_channel = []
    for channel in channels:
        rows = [channel[start : start + width] for start in range(0, width * height, width)]
        by_row = [[_dot(wave, row) for row in rows] for wave in horizontal]
        per_channel.append([_dot(wave, by_row[x]) for wave in vertical for x in range(across)])
    norm = 1 / (width * height)
    return [
        (red * share, green * share, blue * share)
        for index, (red, green, blue) in enumerate(zip(*per_channel, strict=True))
        for share in (norm if index == 0 else 2 * norm,)
    ]


def _cosines(count: int, length: int) -> list[list[float]]:
    return [[math.cos(math.pi * wave * position / length) for position in range(length)] for wave in range(count)]


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(map(float.__mul__, left, right))


def _encode_average(factor: Factor) -> str:
    red, green, blue = (_srgb_level(value) for value in factor)
    return _base83(red << 16 | green << 8 | blue, 4)


def _encode_detail(factor: Factor, scale: float) -> str:
    red, green, blue = (
        max(0, min(18, math.floor(math.copysign(math.sqrt(abs(value) / scale), value) * 9 + 9.5))) for value in factor
    )
    return _base83(red * 19 * 19 + green * 19 + blue, 2)


def _srgb_level(linear: float) -> int:
    value = max(0.0, min(1.0, linear))
    sample = value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return int(sample * 255 + 0.5)


def _base83(value: int, digits: int) -> str:
    return "".join(_ALPHABET[value // 83**place % 83] for place in range(digits - 1, -1, -1))
