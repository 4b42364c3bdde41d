"""The errors of this package: one exception with a stable code."""

from __future__ import annotations

from enum import StrEnum


class ScrubCode(StrEnum):
    """The reason why a file cannot be scrubbed. The list only grows."""

    EMPTY = "empty"
    CORRUPT = "corrupt"  # no decoder can follow the structure
    UNSUPPORTED = "unsupported"  # a valid file with a feature that is not on the list
    NO_VIDEO = "no_video"  # a container of videos without a video track, and without sound
    NO_SOUND = "no_sound"  # an audio file without sound
    SEVERAL_TRACKS = "several_tracks"  # an audio file with moving pictures, or with more than one track of sound
    ENCRYPTED = "encrypted"
    EXTERNAL_REFERENCE = "external_reference"  # the file refers to data in another one
    BAD_DIMENSIONS = "bad_dimensions"  # from here on, the limits of `Bounds`
    BAD_ASPECT = "bad_aspect"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_FRAMES = "too_many_frames"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"
    TOO_COMPLEX = "too_complex"


class ScrubError(Exception):
    """The file is at fault. ``code`` is stable, ``detail`` is for people. `Missing` is the only other exception."""

    def __init__(self, code: ScrubCode, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else str(self.code)


def corrupt(detail: str) -> ScrubError:
    """Return the error for an inconsistent structure."""
    return ScrubError(ScrubCode.CORRUPT, detail)
