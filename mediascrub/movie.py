"""The results of reading a container: facts for the client, ranges for the poster, patches for the scrub.

The scrub of coded pictures is the same in every container. If the whole file is present, all samples are read. Of a
large video the first seconds of each video track decide; those of the main one are fetched for the poster anyway. If
they contain at most one private message, which is the note of an encoder, the rest counts as clean. If they contain
more, the whole file is needed.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from mediascrub.bounds import VideoBounds
from mediascrub.coded_data import Coding
from mediascrub.credentials import Credentials
from mediascrub.formats import Format
from mediascrub.provenance import NOTHING_SAID, Provenance
from mediascrub.ranges import Patch, Range, enclosing, joined_patches, merged
from mediascrub.sparse import SparseFile

POSTER_S = 5.0  # long enough to pass over a fade from black, short enough for a few megabytes
REORDERING_S = 0.5  # read beyond the requested seconds, because decoders hold back some pictures
_SHORTEST_S = 0.04  # one picture, if not even the first second fits
_NOTES = 1  # encoders write their settings once


@dataclass(frozen=True, slots=True)
class MoviePlan:
    """All that follows from a container's structure, without decoding a sample."""

    format: Format
    stream: str  # the video that players show: ``i:`` and its id, or ``V:`` and its number; ``A:0`` is sound alone
    pixels: int  # of a frame of it
    duration_s: float  # 0.0 if the structure of sound does not say it
    poster_s: float  # how much of it can be decoded from its start
    poster_ranges: tuple[Range, ...]  # what must be present for that; sorted, and they do not touch
    patches: tuple[Patch, ...]  # sorted; they do not touch, keep the length, and can be applied repeatedly
    credentials: Credentials | None = None  # of the file; the patches remove them
    provenance: Provenance = NOTHING_SAID


@dataclass(frozen=True, slots=True)
class PosterSamples:
    """Ranges, merged, and how many seconds from the first picture on are decodable from them."""

    ranges: tuple[Range, ...]
    seconds: float


def decodable_seconds(wanted: float, covered: float) -> float:
    """Return how many of the ``wanted`` seconds can be decoded if the samples of ``covered`` seconds are present."""
    return min(wanted, max(covered - REORDERING_S, covered / 2, _SHORTEST_S))


def sound_plan(
    file: SparseFile, fmt: Format, duration_s: float, patches: tuple[Patch, ...], credentials: Credentials | None = None
) -> MoviePlan:
    """Return the plan of a file with sound alone, whose picture is the waveform: all of the file is needed for it."""
    return MoviePlan(fmt, "A:0", 0, duration_s, 0.0, merged([file.whole]), patches, credentials)


class MovieFormat(Protocol):
    """A container of videos, or of sound alone: a module with this function."""

    def plan(self, file: SparseFile, fmt: Format, *, poster_s: float, bounds: VideoBounds) -> MoviePlan:
        """Plan poster and scrub of a file of ``fmt`` from what is present. Raises `Missing` or `ScrubError`."""


class Edits:
    """Collects ``patches``, without those that change nothing; ``peek`` returns bytes of the file that are present."""

    def __init__(self, peek: Callable[[int, int], bytes | None]) -> None:
        self.patches: list[Patch] = []
        self._peek = peek

    def zero(self, offset: int, length: int) -> None:
        """Overwrite ``length`` bytes at ``offset`` in the file with zeros; nothing if ``length`` is not positive."""
        if length > 0 and ((there := self._peek(offset, length)) is None or there.count(0) < length):
            self.patches.append(Patch(offset, length))

    def put(self, offset: int, new: bytes) -> None:
        """Overwrite the bytes at ``offset`` in the file with ``new``."""
        if self._peek(offset, len(new)) != new:
            self.patches.append(Patch(offset, len(new), new))

    def joined_with(self, coded: Iterable[Patch]) -> tuple[Patch, ...]:
        """Return all patches, and ``coded``, those of samples, except where a sample is overwritten already."""
        ordered = sorted(self.patches, key=lambda patch: patch.offset)
        return joined_patches((*ordered, *(patch for patch in coded if not overlaps(patch, ordered))))


def overlaps(part: Patch | Range, ordered: Sequence[Patch]) -> bool:
    """Return whether any of the patches, which are sorted and apart, changes this part of the file."""
    index = bisect.bisect_left(ordered, part.end, key=lambda patch: patch.offset)
    return index > 0 and ordered[index - 1].end > part.offset


CodedSample = tuple[Range, Coding, bytes]
"""One sample of a video track: its range, its coding, and its codec's configuration."""


def coded_patches(file: SparseFile, samples: Iterable[CodedSample], first_seconds: Iterable[Range]) -> Iterator[Patch]:
    """Yield the changes in ``samples``. Raises `Missing` for ``first_seconds``, or for the file if they decide so."""
    ordered = sorted(samples, key=itemgetter(0))
    if not ordered:
        return
    whole = Range(0, file.size_bytes)
    beginnings = (whole,) if file.is_whole else merged(first_seconds)
    file.require(beginnings)
    found: list[Patch] = []
    position = 0
    for sample, coding, private in ordered:
        # Samples that overlap come from a forged table.
        if sample.offset < position:
            continue
        beginning = enclosing(beginnings, sample.offset)
        if beginning is None or sample.end > beginning.end:
            continue
        position = sample.end
        for offset, new in coding.changes_of_sample(private, file.read(*sample)):
            found.append(Patch(sample.offset + offset, len(new), new))
        if len(found) > _NOTES and beginnings[0] != whole:
            file.require([whole])
    yield from found
