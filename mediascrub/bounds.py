"""Limits of media: every check of size, frames, duration and aspect, for images, videos and audio."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from mediascrub.errors import ScrubCode, ScrubError

# A wider pixel aspect is a mistake or an attack: the widest in use is 4:1 (anamorphic on half-width DV).
_MAX_PIXEL_ASPECT = 10


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one image, or of a video's frames. The comment at each names the code of a refusal."""

    max_pixels: int = 1 << 26  # width x height of the one frame that is decoded: TOO_MANY_PIXELS
    max_side: int = 65_500  # pixels; the most that a JPEG decoder takes: BAD_DIMENSIONS
    max_aspect: float = 200.0  # the longer side in terms of the shorter one: BAD_ASPECT
    max_duration_s: float = 4 * 3600.0  # TOO_LONG

    def check_size(self, width: float, height: float, pixel_aspect: Fraction | float = 1) -> None:
        """Check the coded and the displayed size. Raises BAD_DIMENSIONS (a side), BAD_ASPECT or TOO_MANY_PIXELS."""
        shown = shown_size(width, height, pixel_aspect)
        detail = f"{width} x {height} shown as {shown[0]} x {shown[1]}"
        if min(width, height) < 1 or max(*shown, width, height) > self.max_side:
            raise ScrubError(ScrubCode.BAD_DIMENSIONS, detail)
        if max(shown) > self.max_aspect * min(shown):
            raise ScrubError(ScrubCode.BAD_ASPECT, detail)
        if (pixels := max(shown[0] * shown[1], width * height)) > self.max_pixels:
            raise ScrubError(ScrubCode.TOO_MANY_PIXELS, f"{pixels:.0f} pixels, more than {self.max_pixels}")

    def check_duration(self, duration_s: float) -> None:
        """Raise `ScrubError` (TOO_LONG) beyond the limit."""
        if duration_s > self.max_duration_s:
            raise ScrubError(ScrubCode.TOO_LONG, f"{duration_s:.0f} s")


@dataclass(frozen=True, slots=True)
class PictureBounds(Bounds):
    """Limits of an image."""

    max_frames: int = 10_000  # of an animation, which are counted but not decoded: TOO_MANY_FRAMES


@dataclass(frozen=True, slots=True)
class VideoBounds(Bounds):
    """Limits of a video, and of reading its container."""

    max_side: int = 16_384  # pixels; H.264 level 6.2 and HEVC stay below 16 888: BAD_DIMENSIONS
    max_tracks: int = 64  # CORRUPT; an iPhone writes up to 8
    max_index_bytes: int = 64 << 20  # moov, moof and sidx, or all Matroska headers: TOO_LARGE; 4 h at 60 Hz take 13 MB
    max_boxes: int = 200_000  # boxes or elements read: TOO_COMPLEX
    max_samples: int = 4_000_000  # in all tables together: TOO_COMPLEX; 4 h at 60 Hz with audio have 1.6 million
    max_poster_bytes: int = 9 << 20  # maximum that the poster fetches besides the index; its ranges are cut there


def shown_size(width: float, height: float, pixel_aspect: Fraction | float) -> tuple[int, int]:
    """Return the size in square pixels. An aspect stretches the width; players take an implausible one as square."""
    if not Fraction(1, _MAX_PIXEL_ASPECT) <= pixel_aspect <= _MAX_PIXEL_ASPECT:
        pixel_aspect = 1
    return max(1, round(width * pixel_aspect)), max(1, round(height))


class Quota:
    """Limits how many of something a reader accepts."""

    def __init__(self, limit: int, of: str, code: ScrubCode = ScrubCode.TOO_COMPLEX) -> None:
        self._left = limit
        self._of = of
        self._code = code

    def take(self, count: int = 1) -> None:
        """Raise `ScrubError` (with the code) if so many more exceed the limit."""
        self._left -= count
        if self._left < 0:
            raise ScrubError(self._code, f"too many {self._of}")
