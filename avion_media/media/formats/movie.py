"""What the reader of a container finds: facts for the client, ranges for the poster, patches for the scrub.

A plan crosses a process boundary as JSON (`MoviePlan.to_json`, `plan_from_json`), so it holds plain values only.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from avion_media.domain.formats import BY_NAME, MediaFormat
from avion_media.domain.ranges import Patch, Range, joined_patches
from avion_media.media.bounds import VideoBounds
from avion_media.media.formats.sparse import SparseFile

POSTER_SECONDS = 5.0  # long enough to pass over a fade from black, short enough for a few megabytes
REORDERING_S = 0.5  # decoders hold back some pictures: what is read beyond the seconds asked for
_SHORTEST_S = 0.04  # one picture, when not even the first second fits
POSTER_SCAN_S = 10.0  # so much is searched for a frame that is not blank


@dataclass(frozen=True, slots=True)
class MoviePlan:
    """All that follows from a container's structure, without decoding a sample.

    ``stream`` is ffmpeg's name (a stream specifier) of the video that players show: of it is the poster made.
    ``poster_ranges`` must be present in the sparse file for ffmpeg to open it and decode the first
    ``poster_seconds`` of its main video (sound discarded); they are sorted and apart from each other. Who
    decodes more than the first picture passes ``-t poster_seconds``: half of a picture before a hole decodes as well.

    ``patches`` are sorted, apart from each other, keep the length, and can be applied again without harm.
    """

    format: MediaFormat
    stream: str
    duration_s: float
    poster_seconds: float
    poster_ranges: tuple[Range, ...]
    patches: tuple[Patch, ...]

    @property
    def json_bytes(self) -> int:
        """About the length of `to_json` as text: that of the patches."""
        return sum(24 + 2 * len(each.data) for each in self.patches)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values; `plan_from_json` reads it back."""
        return asdict(self) | {
            "format": self.format.name,
            "poster_ranges": [[each.offset, each.length] for each in self.poster_ranges],
            "patches": [[each.offset, each.length, each.data.hex()] for each in self.patches],
        }


def plan_from_json(values: dict[str, Any]) -> MoviePlan:
    """Read back what `MoviePlan.to_json` gave. Raises ValueError, KeyError or TypeError on anything else."""
    return MoviePlan(
        **values
        | {
            "format": BY_NAME[values["format"]],
            "poster_ranges": tuple(Range(offset, length) for offset, length in values["poster_ranges"]),
            "patches": tuple(Patch(offset, length, bytes.fromhex(data)) for offset, length, data in values["patches"]),
        }
    )


@dataclass(frozen=True, slots=True)
class PosterSamples:
    """Ranges, merged, and how many seconds from the first picture on are decodable from them."""

    ranges: tuple[Range, ...]
    seconds: float


def decodable_seconds(wanted: float, covered: float) -> float:
    """How many of the ``wanted`` seconds decode where the samples of so many are there, but not all."""
    return min(wanted, max(covered - REORDERING_S, covered / 2, _SHORTEST_S))


class MovieFormat(Protocol):
    """A container of videos: a module with this function."""

    def plan(self, file: SparseFile, fmt: MediaFormat, *, poster_seconds: float, bounds: VideoBounds) -> MoviePlan:
        """Plan poster and scrub of a file of ``fmt`` from what is present. Raises `Missing` or `Rejected`."""


class Edits:
    """Collects ``patches``, and leaves out what is known to change nothing.

    ``peek`` gives the bytes at an offset of the file, or None where they are not at hand.
    """

    def __init__(self, peek: Callable[[int, int], bytes | None]) -> None:
        self.patches: list[Patch] = []
        self._peek = peek

    def zero(self, offset: int, length: int) -> None:
        """Zeros over ``length`` bytes at ``offset`` in the file; none where ``length`` is not positive."""
        if length > 0 and ((there := self._peek(offset, length)) is None or there.count(0) < length):
            self.patches.append(Patch(offset, length))

    def put(self, offset: int, new: bytes) -> None:
        """``new`` over the bytes at ``offset`` in the file."""
        if self._peek(offset, len(new)) != new:
            self.patches.append(Patch(offset, len(new), new))

    def joined_with(self, coded: Iterable[Patch]) -> tuple[Patch, ...]:
        """All patches, and those of coded samples but for what is overwritten already, as it cannot be read."""
        ordered = sorted(self.patches, key=lambda patch: patch.offset)
        return joined_patches((*ordered, *(patch for patch in coded if not _overlaps(patch, ordered))))


def _overlaps(patch: Patch, ordered: Sequence[Patch]) -> bool:
    index = bisect.bisect_left(ordered, patch.end, key=lambda other: other.offset)
    return index > 0 and ordered[index - 1].end > patch.offset
