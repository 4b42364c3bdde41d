"""Is a frame blank? Judged on a small grey copy by the spread of its luma: black, white and flat frames have none."""

from __future__ import annotations

from typing import Final

SAMPLE_SIDE: Final = 32
SAMPLE_BYTES: Final = SAMPLE_SIDE * SAMPLE_SIDE

_TAIL: Final = SAMPLE_BYTES // 50  # 2 % at either end: a logo or a channel's name on black is still a blank frame
_MIN_SPREAD: Final = 24  # of 255; film grain and coding noise on black stay below 10 once scaled down


def is_blank(grey: bytes) -> bool:
    """``grey``: `SAMPLE_BYTES` luma values."""
    ordered = sorted(grey)
    return ordered[-1 - _TAIL] - ordered[_TAIL] < _MIN_SPREAD
