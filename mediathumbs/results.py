"""What is made of photos, videos and sound, and how large it is. Loads no decoder."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from mediascrub import Format, Range

WEBP_SUFFIX: Final = ".webp"
"""Suffix of a size's name for a WebP. Without it, the thumbnail is a JPEG."""

MAX_THUMBNAIL_BYTES: Final = 4 << 20
"""Maximum size of one thumbnail. Noise of 4096 x 4096 pixels would exceed it at quality 80."""

WAVEFORM_SPANS: Final = 100
"""Number of equal parts of sound, each with its peak."""

LIBRARIES_OF_SYSTEM: Final = {"libturbojpeg": "libturbojpeg.so.0", "libwebp": "libwebp.so.7"}
"""The libraries that no wheel brings, and the names by which the linker finds them. Pillow replaces them, slower."""

_BASE_83: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"

Webp = Literal["off", "alpha", "all"]
"""Which pictures get WebP beside JPEG: none, those with transparency, or all."""


@dataclass(frozen=True, slots=True)
class ThumbnailSize:
    """A named thumbnail size: longest edge in pixels, never enlarged."""

    name: str
    longest_edge: int


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The thumbnails ``by_name``: a JPEG for each size, a WebP as ``size.webp``. In sRGB, upright, without metadata."""

    by_name: dict[str, bytes]
    blurhash: str


@dataclass(frozen=True, slots=True)
class Poster:
    """Thumbnails of one frame of a video, and the video's size in pixels as displayed.

    ``blank``: all searched frames show nothing, and this is the first one. ``key_frame`` is then where the first key
    frame behind them lies, or None if no index says it.
    """

    thumbnails: Thumbnails
    width: int
    height: int
    blank: bool = False
    key_frame: Range | None = None


@dataclass(frozen=True, slots=True)
class Waveform:
    """The loudest sample of all channels in each of `WAVEFORM_SPANS` equal parts of sound, 255 for full scale."""

    peaks: bytes
    duration_s: float
    thumbnails: Thumbnails


def check_wanted(fmt: Format, formats: Collection[Format], sizes: Collection[ThumbnailSize], quality: int) -> None:
    """Raise ValueError for a mistake of the caller, which must not look like one of the file."""
    if fmt not in formats:
        raise ValueError(f"{fmt} is not one of {', '.join(formats)}")
    if not sizes or not 1 <= quality <= 95:
        raise ValueError("expected at least one size, and a quality within 1 and 95")


def thumbnail_names(sizes: Iterable[ThumbnailSize]) -> tuple[str, ...]:
    """Return the names of all thumbnails that can be made in these sizes: all JPEGs, then all WebPs."""
    names = [size.name for size in sizes]
    return (*names, *(f"{name}{WEBP_SUFFIX}" for name in names))


def fit_within(width: int, height: int, longest_edge: int) -> tuple[int, int]:
    """Return the dimensions of a thumbnail: aspect kept, never enlarged, each side at least one pixel."""
    longest = max(width, height)
    if longest <= longest_edge:
        return width, height
    return max(1, round(width * longest_edge / longest)), max(1, round(height * longest_edge / longest))


def is_blurhash(text: object) -> bool:
    """Return whether this can be a BlurHash: a text of its characters only, as many as the first one says."""
    if not isinstance(text, str):
        return False
    flag = _BASE_83.find(text[:1])
    return set(text) <= set(_BASE_83) and 0 <= flag < 81 and len(text) == 4 + 2 * (flag % 9 + 1) * (flag // 9 + 1)
