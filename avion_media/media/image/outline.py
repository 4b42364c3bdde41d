"""What a file's structure tells of a picture before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.bounds import MAX_PARTS, PictureBounds
from avion_media.media.image.colour import Colour

SWAPPING_ORIENTATIONS = (5, 6, 7, 8)
"""EXIF orientations in which the stored width is the displayed height."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A walk's findings: ``width`` and ``height`` as stored, before ``orientation`` (EXIF numbering) is applied.

    ``frames`` and ``duration_s`` are those of an animation (1 and 0.0 for a still). ``pixels`` is what the decoder will
    get: a file of the first frame with as little else as the format's walk can see to. What never reaches a decoder can
    neither break it, nor make it slow, nor come out of it again.
    """

    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    duration_s: float = 0.0
    colour: Colour | None = None
    pixels: bytes = b""

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height with the orientation applied."""
        if self.orientation in SWAPPING_ORIENTATIONS:
            return self.height, self.width
        return self.width, self.height

    @property
    def decoded_bytes(self) -> int:
        """The decoded picture alone, in RGB: what no decoder does without."""
        return self.width * self.height * 3

    def check(self, bounds: PictureBounds) -> None:
        """Raise `Rejected` when a bound is broken.

        BAD_DIMENSIONS, BAD_ASPECT, TOO_MANY_PIXELS, TOO_MANY_FRAMES, TOO_LONG; DECODER_LIMIT when the decoded picture
        alone would fill the memory.
        """
        bounds.check_size(self.width, self.height)
        if self.frames > bounds.max_frames:
            raise Rejected(Reason.TOO_MANY_FRAMES, f"{self.frames} frames")
        bounds.check_duration(self.duration_s)
        if self.decoded_bytes > bounds.max_memory_bytes:
            raise Rejected(Reason.DECODER_LIMIT, f"{self.width}x{self.height} decoded do not fit the memory")


class FrameCounter:
    """Counts the frames of an animation and the time they play; refuses as soon as there are more than allowed."""

    def __init__(self, max_frames: int) -> None:
        self._max_frames = max_frames
        self.frames = 0
        self.duration_s = 0.0

    def add(self, delay_s: float) -> None:
        """One more frame, shown for ``delay_s``; 10 ms or less are played as 100 ms, as all browsers do."""
        self.frames += 1
        self.duration_s += delay_s if delay_s > 0.0105 else 0.1
        if self.frames > self._max_frames:
            raise Rejected(Reason.TOO_MANY_FRAMES, f"more than {self._max_frames} frames")

    @property
    def animated_s(self) -> float:
        """The playing time; 0.0 for a single frame."""
        return self.duration_s if self.frames > 1 else 0.0


def bounded_parts(limit: int = MAX_PARTS) -> Iterator[int]:
    """Count the parts of a walk; CORRUPT when a file is shredded into more than ``limit``."""
    yield from range(limit)
    raise Rejected(Reason.CORRUPT, f"more than {limit} parts")


Walk = Callable[[bytes, int], Outline]
"""How a format's structure is read: (file, max_frames) to outline; raises `Rejected`."""
