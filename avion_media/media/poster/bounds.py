"""How much a poster may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from avion_media.media.bounds import VideoBounds
from avion_media.media.sandbox import Limits

_PROBE_MEMORY_BYTES: Final = 256 << 20  # an 8K HEVC takes 60 MiB, an index of 256 MiB of fragments some more
_COPY_BYTES: Final = 64 << 20  # the first frame of each video; one of 8K ProRes is 20 MiB
_BASE_MEMORY_BYTES: Final = 128 << 20
# Decoded frames that a decoder holds: at most 16 references of a small picture, 6 of the largest that its level
# allows; 3 bytes a pixel (10 bit 4:2:0), one thread. Measured for the first frame: 8K HEVC needs less than 192 MiB.
_BYTES_PER_PIXEL: Final = 24


@dataclass(frozen=True, slots=True)
class PosterBounds:
    """Bounds of the two or more runs that a poster takes; each run has all of them.

    ``video`` bounds the picture and is checked before any is decoded. ``scan_s`` is how many seconds of video are
    searched for a frame that is not blank.
    """

    video: VideoBounds = field(default_factory=VideoBounds)
    max_memory_bytes: int = 1 << 30
    cpu_s: float = 60.0
    wall_s: float = 90.0
    scan_s: float = 10.0

    def for_probe(self) -> Limits:
        """Limits of a run of ffprobe."""
        return self._limits(_PROBE_MEMORY_BYTES, output_bytes=0)

    def for_copy(self) -> Limits:
        """Limits of a run of ffmpeg that copies the first frames, still coded, into a file."""
        return self._limits(_PROBE_MEMORY_BYTES, _COPY_BYTES)

    def for_frames(self, coded_pixels: int, output_bytes: int) -> Limits:
        """Limits of a run of ffmpeg over frames of ``coded_pixels``; memory by what such frames take."""
        return self._limits(_BASE_MEMORY_BYTES + _BYTES_PER_PIXEL * coded_pixels, output_bytes)

    def _limits(self, memory_bytes: int, output_bytes: int) -> Limits:
        return Limits(min(memory_bytes, self.max_memory_bytes), self.cpu_s, self.wall_s, output_bytes)
