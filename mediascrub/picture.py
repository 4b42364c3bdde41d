"""The results of reading a picture: facts, the scrubbed original, and the file for the decoder.

Every format has an allow list. What a decoder needs to show the same pixels stays in the original: coded data, the
numbers of an ICC profile, orientation, animation. Everything else is removed, known or not. Nothing is decoded or
encoded again, so data that hides inside coded data (such as bits after the last block of a scan) stays. Scrubbing an
original again changes nothing, and gives the same facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mediascrub.bounds import PictureBounds
from mediascrub.credentials import Credentials
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format

MAX_PARTS = 2_000_000
"""Maximum number of segments, chunks or blocks in one file: at most a second of CPU time."""
MAX_PEEKED_PARTS = 1000
"""Maximum number of parts that `PictureFormat.peek` looks at: a few milliseconds. Cameras write some dozens."""
UPRIGHT, _SWAPPING_ORIENTATIONS = 1, (5, 6, 7, 8)  # of Exif: the stored width is the displayed height

PQ, HLG = 16, 18  # the transfers of HDR (ITU-T H.273, table 3)

Point = tuple[float, float]
Primaries = tuple[Point, Point, Point, Point]
"""CIE 1931 x, y of white, red, green and blue."""

D65: Point = (0.3127, 0.3290)
BT709_PRIMARIES: Primaries = (D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))


@dataclass(frozen=True, slots=True)
class IccProfile:
    """Colours by an embedded ICC profile."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CodePoints:
    """Colours by the code points of ITU-T H.273."""

    primaries: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Chromaticities:
    """Colours by measured primaries and the exponent of a power law."""

    primaries: Primaries
    exponent: float


Colour = IccProfile | CodePoints | Chromaticities


@dataclass(frozen=True, slots=True)
class Peek:
    """The facts in a file's first bytes: the size as stored, and what a decoder must keep in memory."""

    width: int
    height: int
    whole: bool = False  # more than a decoder usually keeps: all coefficients of a JPEG, the canvas of an animated WebP


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(Peek):
    """One picture that was read. What never reaches a decoder cannot crash it, slow it down, or leak through it."""

    format: Format
    orientation: int = 1  # of the size as stored, as in Exif
    frames: int = 1
    duration_s: float = 0.0  # of an animation
    colour: Colour | None = None  # that of the profile that stays
    first_frame: tuple[int, int, int, int] = (0, 0, 0, 0)  # of a GIF, on its canvas: left, top, right, bottom
    ycbcr: bool = False  # the picture is certainly coded as luma and chroma, without opacity
    reduction: int = 1  # the factor by which a decoder can shrink each side
    credentials: Credentials | None = None  # of the file that was read; the original has none
    xmp: bytes | memoryview = field(default=b"", compare=False, repr=False)  # first packet of the file that was read
    original: bytes  # the scrubbed file, which is served
    still: bytes  # the file for the decoder: the original, or a file of its first frame

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height with the orientation applied."""
        return turned_size((self.width, self.height), self.orientation)

    def check(self, bounds: PictureBounds) -> None:
        """Raise `ScrubError` as `Bounds`, or TOO_MANY_FRAMES."""
        bounds.check_size(self.width, self.height)
        if self.frames > bounds.max_frames:
            raise ScrubError(ScrubCode.TOO_MANY_FRAMES, f"{self.frames} frames")
        bounds.check_duration(self.duration_s)


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the width and height of a picture of ``size`` after the rotation of its ``orientation`` (as in Exif)."""
    return size[::-1] if orientation in _SWAPPING_ORIENTATIONS else size


class PictureFormat(Protocol):
    """A format of pictures: a module with these two functions."""

    def peek(self, head: bytes) -> Peek | None:
        """Return size and cost by a file's first bytes; None if unknown. Never raises.

        It runs outside the sandbox, on an event loop, so it looks at `MAX_PEEKED_PARTS` parts at most.
        """

    def read(self, view: memoryview) -> Picture:
        """Walk the file once. Raises only `ScrubError`. The caller checks the limits."""


def playing_time(delays_s: Sequence[float]) -> float:
    """Return the seconds that frames take; 0.0 for a single one. 10 ms or less count as 100 ms, as in all browsers."""
    return sum(delay_s if delay_s > 0.0105 else 0.1 for delay_s in delays_s) if len(delays_s) > 1 else 0.0


def bounded_parts() -> Iterator[int]:
    """Yield numbers to count the parts of a walk. After `MAX_PARTS` raise `ScrubError` (CORRUPT)."""
    yield from range(MAX_PARTS)
    raise corrupt(f"more than {MAX_PARTS} parts")
