"""Sample tables (ISO/IEC 14496-12, 8.6 and 8.7): where the samples of a track are, and when they are shown.

Tables of millions of entries are read in bulk; Python loops run over runs, and over the samples that a poster needs.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise, repeat
from operator import add

from mediascrub.bounds import Quota
from mediascrub.errors import corrupt
from mediascrub.isobmff import Box, first, make_full_box, required
from mediascrub.ranges import Range

_MAX_OFFSET = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class MediaSample:
    """One sample: its range in the file, and its decoding and presentation time in the track's timescale."""

    data: Range
    decoded_at: int
    shown_at: int
    sync: bool


@dataclass(frozen=True, slots=True)
class SampleTable:
    """The tables of one track."""

    count: int  # of samples
    constant_size: int  # of every sample, if it is not 0
    sizes: array[int]  # else of each
    chunks: array[int]  # file offsets
    runs: tuple[tuple[int, int, int], ...]  # the index of a run's first chunk, its samples per chunk, their description
    durations: tuple[tuple[int, int], ...]  # a count of samples, and their duration
    shifts: tuple[tuple[int, int], ...]  # a count of samples, and their presentation minus decoding time
    sync: frozenset[int] | None  # the indices of sync samples; None if all are

    @property
    def duration(self) -> int:
        """The duration of all samples, in the track's timescale."""
        return sum(count * delta for count, delta in self.durations)

    def chunk_ranges(self) -> Iterator[Range]:
        """Yield the range of each chunk. Ends early when no samples are left."""
        position = self._position()
        for offset, index, end, _ in self._spans():
            yield Range(offset, position(end) - position(index))

    def samples(self) -> Iterator[MediaSample]:
        """Yield the samples in decoding order. Ends early if the lengths of the tables contradict each other."""
        decoded_at = 0
        durations = chain.from_iterable(repeat(delta, count) for count, delta in self.durations)
        shifts = chain(chain.from_iterable(repeat(shift, count) for count, shift in self.shifts), repeat(0))
        for (index, data), duration, shift in zip(enumerate(self.sample_ranges()), durations, shifts, strict=False):
            yield MediaSample(data, decoded_at, decoded_at + shift, self.sync is None or index in self.sync)
            decoded_at += duration

    def shown_at(self) -> array[int]:
        """Return the presentation time of each sample."""
        durations = chain.from_iterable(repeat(delta, count) for count, delta in self.durations)
        shifts = chain(chain.from_iterable(repeat(shift, count) for count, shift in self.shifts), repeat(0))
        return array("q", islice(map(add, accumulate(durations, initial=0), shifts), self.count))

    def sample_ranges(self) -> Iterator[Range]:
        """Yield the range of each sample, in decoding order."""
        for offset, index, end, _ in self._spans():
            for size in repeat(self.constant_size, end - index) if self.constant_size else self.sizes[index:end]:
                yield Range(offset, size)
                offset += size

    def index_at(self, time: int) -> int:
        """Return the index of the sample that is decoded at that time."""
        index = 0
        for count, delta in self.durations:
            if time < count * delta:
                return index + max(0, time) // delta
            index, time = index + count, time - count * delta
        return index

    def part(self, start: int, end: int) -> SampleTable:
        """Return the table of the samples from index ``start`` to before ``end`` alone."""
        position = self._position()
        chunks: array[int] = array("Q")
        runs: list[tuple[int, int, int]] = []
        count = 0
        for offset, index, behind, description in self._spans():
            first, last = max(index, start), min(behind, end)
            if first < last:
                if not runs or runs[-1][1:] != (last - first, description):
                    runs.append((len(chunks), last - first, description))
                chunks.append(min(offset + position(first) - position(index), _MAX_OFFSET))
                count += last - first
        return SampleTable(
            count=count,
            constant_size=self.constant_size,
            sizes=self.sizes[start:end],
            chunks=chunks,
            runs=tuple(runs),
            durations=tuple(_part(self.durations, start, end)),
            shifts=tuple(_part(self.shifts, start, end)),
            sync=None if self.sync is None else frozenset(each - start for each in self.sync if start <= each < end),
        )

    def boxes(self) -> bytes:
        """Return the boxes of all tables."""
        large = any(offset >> 32 for offset in self.chunks)
        runs = chain.from_iterable((chunk + 1, *run) for chunk, *run in self.runs)
        shifts = [(count, shift % (1 << 32)) for count, shift in self.shifts]
        signed = any(shift >> 31 for _, shift in shifts)
        return b"".join(
            (
                _box(b"stts", [len(self.durations), *chain.from_iterable(self.durations)]),
                _box(b"ctts", [len(shifts), *chain.from_iterable(shifts)], version=int(signed)) if shifts else b"",
                _box(b"stss", [len(self.sync), *(each + 1 for each in sorted(self.sync))])
                if self.sync is not None
                else b"",
                _box(b"stsc", [len(self.runs), *runs]),
                _box(b"stsz", [self.constant_size, self.count, *self.sizes]),
                make_full_box(
                    b"co64" if large else b"stco",
                    0,
                    0,
                    struct.pack(">I", len(self.chunks)),
                    _packed(self.chunks, "Q" if large else "I"),
                ),
            )
        )

    def _position(self) -> Callable[[int], int]:
        """Return the function for the bytes of all samples before an index."""
        if self.constant_size:
            return lambda index: index * self.constant_size
        return array("Q", accumulate(self.sizes, initial=0)).__getitem__

    def _spans(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the offset of each chunk, the indices of its first sample and after its last one, their description."""
        index = 0
        for (chunk, per_chunk, description), (next_chunk, *_) in pairwise((*self.runs, (len(self.chunks), 0, 0))):
            for offset in self.chunks[chunk:next_chunk]:
                end = min(index + per_chunk, self.count)
                yield offset, index, end, description
                if end - index < per_chunk:  # the last chunk can have fewer samples than its run says
                    return
                index = end


def _part(pairs: Iterable[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    at = 0
    for count, value in pairs:
        if (kept := min(at + count, end) - max(at, start)) > 0:
            yield kept, value
        at += count


def _packed(numbers: Sequence[int], kind: str) -> bytes:
    return struct.pack(f">{len(numbers)}{kind}", *numbers)


def _box(kind: bytes, numbers: Sequence[int], version: int = 0) -> bytes:
    return make_full_box(kind, version, 0, _packed(numbers, "I"))


def read_sample_table(stbl: list[Box], quota: Quota) -> SampleTable:
    """Read the tables among the children of ``stbl``; ``quota`` limits the number of samples.

    Raises `ScrubError`: corrupt if a required table is missing or cut off, too_complex beyond the quota.
    """
    count, constant_size, sizes = _read_sizes(stbl, quota)
    shifts, sync, large = first(stbl, b"ctts"), first(stbl, b"stss"), first(stbl, b"co64")
    if large:
        chunks = _entries(large, "Q", 1, quota)
    else:
        chunks = array("Q", _entries(required(stbl, b"stco", "stbl"), "I", 1, quota))
    return SampleTable(
        count=count,
        constant_size=constant_size,
        sizes=sizes,
        chunks=chunks,
        runs=_read_runs(required(stbl, b"stsc", "stbl"), quota),
        durations=_pairs(_entries(required(stbl, b"stts", "stbl"), "I", 2, quota)),
        shifts=_read_shifts(shifts, quota) if shifts else (),
        sync=frozenset(number - 1 for number in _entries(sync, "I", 1, quota)) if sync else None,
    )


def big_endian(data: bytes | memoryview, kind: str) -> array[int]:
    """Return the unsigned integers (``kind``: H, I or Q of `array`) in ``data``."""
    values = array(kind)
    values.frombytes(data)
    if sys.byteorder == "little":
        values.byteswap()
    return values


def _entries(box: Box, kind: str, fields: int, quota: Quota, skip: int = 4) -> array[int]:
    """Return the entries of a full box, which begins with their number, as one flat sequence."""
    (count,) = box.integers("I", skip)
    table = box.at(skip + 4, count * fields * array(kind).itemsize)
    quota.take(count)
    return big_endian(table, kind)


def _pairs(values: array[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(values[::2], values[1::2], strict=True))


def _read_sizes(stbl: list[Box], quota: Quota) -> tuple[int, int, array[int]]:
    """Read ``stsz``, or ``stz2`` with sizes of 4, 8 or 16 bits. Return the number of samples, and one size or all."""
    plain = first(stbl, b"stsz")
    if plain is not None:
        constant_size, count = plain.integers("II", 4)
        return count, constant_size, array("I") if constant_size else _entries(plain, "I", 1, quota, skip=8)
    box = required(stbl, b"stz2", "stbl")
    bits, count = box.integers("xxxBI", 4)
    quota.take(count)
    if bits not in (4, 8, 16):
        raise corrupt(f"stz2 with {bits} bits a size")
    data = box.at(12, (count * bits + 7) // 8)
    if bits == 16:
        return count, 0, array("I", big_endian(data, "H"))
    if bits == 8:
        return count, 0, array("I", data)
    return count, 0, array("I", chain.from_iterable((byte >> 4, byte & 15) for byte in data))[:count]


def _read_runs(box: Box, quota: Quota) -> tuple[tuple[int, int, int], ...]:
    values = _entries(box, "I", 3, quota)
    runs = tuple(zip((chunk - 1 for chunk in values[::3]), values[1::3], values[2::3], strict=True))
    ordered = all(one[0] < other[0] for one, other in pairwise(runs))
    if runs and (runs[0][0] != 0 or not ordered or any(per_chunk == 0 for _, per_chunk, _ in runs)):
        raise corrupt("stsc is out of order")
    return runs


def _read_shifts(box: Box, quota: Quota) -> tuple[tuple[int, int], ...]:
    """Read ``ctts``: signed in both versions, as in players, because writers put negative shifts in version 0."""
    pairs = _pairs(_entries(box, "I", 2, quota))
    return tuple((count, shift - (1 << 32) if shift >> 31 else shift) for count, shift in pairs)
