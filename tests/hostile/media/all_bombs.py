"""Every file that the tests make to break something. Those that others made are among `tests/data`."""

from __future__ import annotations

from tests.hostile.media import (
    audio_bombs,
    gif_webp_bombs,
    heif_bombs,
    jpeg_bombs,
    matroska_bombs,
    mp4_bombs,
    png_bombs,
    text_bombs,
)
from tests.hostile.media.bomb import Bomb

MADE: tuple[Bomb, ...] = (
    *jpeg_bombs.BOMBS,
    *png_bombs.BOMBS,
    *gif_webp_bombs.BOMBS,
    *heif_bombs.BOMBS,
    *mp4_bombs.BOMBS,
    *matroska_bombs.BOMBS,
    *audio_bombs.BOMBS,
    *text_bombs.BOMBS,
)
