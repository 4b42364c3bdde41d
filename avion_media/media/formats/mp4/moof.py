"""Movie fragments (ISO/IEC 14496-12, 8.8): where the samples of a ``moof`` lie, and where its fellows are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from avion_media.domain.errors import Rejected
from avion_media.domain.ranges import Range
from avion_media.media.bounds import corrupt
from avion_media.media.formats.isobmff import Box, Region, first, required
from avion_media.media.formats.mp4.moov import Movie
from avion_media.media.formats.sample_table import SampleBudget, big_endian

_BASE_OFFSET, _DESCRIPTION, _DURATION, _SIZE, _FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20  # tfhd
_BASE_IS_MOOF = 0x20000
_RUN_OFFSET, _RUN_FLAGS, _SAMPLE_DURATION, _SAMPLE_SIZE = 0x1, 0x4, 0x100, 0x200  # trun
_MAX_REFERENCES = 4096  # of an index that are worth fetching ahead


@dataclass(frozen=True, slots=True)
class Run:
    """One ``trun``: consecutive samples of a track, their decoding times in its timescale."""

    track_id: int
    data: Range
    starts_at: int
    sizes: Sequence[int]
    durations: Sequence[int]

    @property
    def ends_at(self) -> int:
        """The decoding time behind its last sample."""
        return self.starts_at + sum(self.durations)


@dataclass(frozen=True, slots=True)
class _Defaults:
    track_id: int
    base: int
    duration: int
    size: int


def read_fragment(
    region: Region, moof: Box, movie: Movie, clock: dict[int, int], budget: SampleBudget
) -> tuple[Run, ...]:
    """The runs of one ``moof``. ``clock`` holds the decoding time that each track has reached, and is moved on.

    Raises `Rejected`: corrupt, decoder_limit.
    """
    runs: list[Run] = []
    implicit_base = moof.offset
    for box in region.children(moof.payload, moof.end):
        if box.type == b"traf":
            found = _read_track_fragment(region, box, moof, implicit_base, movie, clock, budget)
            runs.extend(found)
            implicit_base = found[-1].data.end if found else implicit_base
    return tuple(runs)


def _read_track_fragment(
    region: Region, traf: Box, moof: Box, implicit_base: int, movie: Movie, clock: dict[int, int], budget: SampleBudget
) -> list[Run]:
    boxes = region.children(traf.payload, traf.end)
    defaults = _read_defaults(region, required(boxes, b"tfhd", "traf"), moof, implicit_base, movie)
    tfdt = first(boxes, b"tfdt")
    if tfdt is not None:
        version = region.integers(tfdt, "B")[0]
        (clock[defaults.track_id],) = region.integers(tfdt, "Q" if version == 1 else "I", 4)
    runs: list[Run] = []
    for box in boxes:
        if box.type == b"trun":
            starts_at = clock.get(defaults.track_id, 0)
            run = _read_run(region, box, defaults, runs[-1].data.end if runs else defaults.base, starts_at, budget)
            clock[run.track_id] = run.ends_at
            runs.append(run)
    return runs


def _read_defaults(region: Region, tfhd: Box, moof: Box, implicit_base: int, movie: Movie) -> _Defaults:
    flags, track_id = region.integers(tfhd, "II")
    duration, size = movie.defaults.get(track_id, (0, 0))
    base = moof.offset if flags & _BASE_IS_MOOF else implicit_base
    skip = 8
    if flags & _BASE_OFFSET:
        (base,) = region.integers(tfhd, "Q", skip)
        skip += 8
    if flags & _DESCRIPTION:
        skip += 4
    if flags & _DURATION:
        (duration,) = region.integers(tfhd, "I", skip)
        skip += 4
    if flags & _SIZE:
        (size,) = region.integers(tfhd, "I", skip)
    return _Defaults(track_id, base, duration, size)


def _read_run(
    region: Region, trun: Box, defaults: _Defaults, follows: int, starts_at: int, budget: SampleBudget
) -> Run:
    flags, count = region.integers(trun, "II")
    budget.take(count)
    offset, skip = follows, 8
    if flags & _RUN_OFFSET:
        offset = defaults.base + region.integers(trun, "i", skip)[0]
        skip += 4
    if flags & _RUN_FLAGS:
        skip += 4
    columns = bin(flags & 0xF00).count("1")
    length = count * columns * 4
    if trun.payload + skip + length > trun.end:
        raise corrupt("trun is cut off")
    values = big_endian(region.at(trun.payload + skip, length), "I")
    durations: Sequence[int] = values[::columns] if flags & _SAMPLE_DURATION else (defaults.duration,) * count
    size_column = 1 if flags & _SAMPLE_DURATION else 0
    sizes: Sequence[int] = values[size_column::columns] if flags & _SAMPLE_SIZE else (defaults.size,) * count
    if offset < 0:
        raise corrupt("trun before the file")
    return Run(defaults.track_id, Range(offset, sum(sizes)), starts_at, sizes, durations)


def indexed_by_sidx(region: Region, sidx: Box) -> tuple[int, ...]:
    """Where the subsegments that a segment index names begin; empty when it names further indices."""
    version = region.integers(sidx, "B")[0]
    first_offset = region.integers(sidx, "8xQ" if version else "4xI", 12)[0]
    skip = 28 if version else 20
    (count,) = region.integers(sidx, "2xH", skip)
    references = big_endian(region.content(sidx, skip + 4)[: count * 12], "I") if count else ()
    sizes = list(references[::3])[:_MAX_REFERENCES]
    if any(size >> 31 for size in sizes):
        return ()
    return tuple(accumulate(sizes[:-1], initial=sidx.end + first_offset)) if sizes else ()


def indexed_by_mfra(read: Callable[[int, int], bytes], size_bytes: int, max_boxes: int) -> tuple[int, ...]:
    """Where the fragments begin that the random access index at the file's end names; empty when there is none.

    ``read`` is `SparseFile.read`. The index is advice: a damaged one counts as none.
    """
    tail = read(size_bytes - 16, 16) if size_bytes >= 16 else b""
    length = int.from_bytes(tail[12:], "big")
    if tail[4:8] != b"mfro" or not 24 <= length <= min(size_bytes, 1 << 20):
        return ()
    region = Region(read(size_bytes - length, length), size_bytes - length, max_boxes)
    try:
        return _random_access_offsets(region, size_bytes)
    except Rejected:
        return ()


def _random_access_offsets(region: Region, size_bytes: int) -> tuple[int, ...]:
    if region.data[4:8] != b"mfra":
        return ()
    offsets: set[int] = set()
    for box in region.children(region.base + 8, size_bytes):
        if box.type == b"tfra":
            version, lengths, count = region.integers(box, "B3x4xII")
            wide, extra = (16, "QQ") if version else (8, "II")
            entry = wide + 3 + (lengths >> 4 & 3) + (lengths >> 2 & 3) + (lengths & 3)
            for index in range(min(count, _MAX_REFERENCES)):
                offsets.add(region.integers(box, extra, 16 + index * entry)[1])
    return tuple(sorted(offsets))
