"""Movie fragments (ISO/IEC 14496-12, 8.8): the ranges of the samples of a ``moof``, and the offsets of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mediascrub.bounds import Quota
from mediascrub.errors import ScrubError, corrupt
from mediascrub.isobmff import Box, Reader, box_at, first, required
from mediascrub.mp4.contents import tfra_entry_bytes
from mediascrub.mp4.moov import Movie
from mediascrub.ranges import Range
from mediascrub.sample_table import MediaSample, big_endian
from mediascrub.sparse import SparseFile

_BASE_OFFSET, _DESCRIPTION, _DURATION, _SIZE = 0x1, 0x2, 0x8, 0x10  # tfhd
_BASE_IS_MOOF = 0x20000
_RUN_OFFSET, _RUN_FLAGS, _SAMPLE_DURATION, _SAMPLE_SIZE = 0x1, 0x4, 0x100, 0x200  # trun
_MAX_REFERENCES = 4096  # of an index that are worth fetching ahead


@dataclass(frozen=True, slots=True)
class Run:
    """One ``trun``: consecutive samples of a track, their decoding times in its timescale."""

    track_id: int
    starts_at: int
    data: Range
    sizes: Sequence[int]
    durations: Sequence[int]

    @property
    def ends_at(self) -> int:
        """The decoding time at the end of its last sample."""
        return self.starts_at + sum(self.durations)

    def samples(self) -> Iterator[MediaSample]:
        """Yield its samples; their exact presentation time does not matter here."""
        offset, decoded_at = self.data.offset, self.starts_at
        for size, duration in zip(self.sizes, self.durations, strict=True):
            yield MediaSample(Range(offset, size), decoded_at, decoded_at, True)
            offset += size
            decoded_at += duration


def read_fragment(moof: Box, movie: Movie, clock: dict[int, int], quota: Quota) -> tuple[Run, ...]:
    """Return the runs of one ``moof``, and update ``clock``, each track's decoding time. CORRUPT or TOO_COMPLEX."""
    runs: list[Run] = []
    implicit_base = moof.offset
    for traf in moof.children():
        if traf.type == b"traf":
            found = _read_track_fragment(traf, moof.offset, implicit_base, movie, clock, quota)
            runs.extend(found)
            implicit_base = found[-1].data.end if found else implicit_base
    return tuple(runs)


def _read_track_fragment(
    traf: Box, moof_offset: int, implicit_base: int, movie: Movie, clock: dict[int, int], quota: Quota
) -> list[Run]:
    boxes = traf.children()
    header = Reader(required(boxes, b"tfhd", "traf").content)
    flags, track_id = header.number(4), header.number(4)
    base = moof_offset if flags & _BASE_IS_MOOF else implicit_base
    base = header.number(8) if flags & _BASE_OFFSET else base
    header.take(4 if flags & _DESCRIPTION else 0)
    duration, size = movie.defaults.get(track_id, (0, 0))
    duration = header.number(4) if flags & _DURATION else duration
    size = header.number(4) if flags & _SIZE else size
    tfdt = first(boxes, b"tfdt")
    if tfdt is not None:
        version = tfdt.integers("B")[0]
        (clock[track_id],) = tfdt.integers("Q" if version == 1 else "I", 4)
    runs: list[Run] = []
    for box in boxes:
        if box.type == b"trun":
            follows = runs[-1].data.end if runs else base
            run = Run(track_id, clock.get(track_id, 0), *_read_run(box, base, follows, duration, size, quota))
            clock[track_id] = run.ends_at
            runs.append(run)
    return runs


def _read_run(
    trun: Box, base: int, follows: int, duration: int, size: int, quota: Quota
) -> tuple[Range, Sequence[int], Sequence[int]]:
    reader = Reader(trun.content)
    flags, count = reader.number(4), reader.number(4)
    quota.take(count)
    offset = base + reader.number(4, signed=True) if flags & _RUN_OFFSET else follows
    reader.take(4 if flags & _RUN_FLAGS else 0)
    columns = (flags & 0xF00).bit_count()
    values = big_endian(reader.take(count * columns * 4), "I")
    durations: Sequence[int] = values[::columns] if flags & _SAMPLE_DURATION else (duration,) * count
    size_column = 1 if flags & _SAMPLE_DURATION else 0
    sizes: Sequence[int] = values[size_column::columns] if flags & _SAMPLE_SIZE else (size,) * count
    if offset < 0:
        raise corrupt("trun before the file")
    return Range(offset, sum(sizes)), sizes, durations


def indexed_by_sidx(sidx: Box) -> tuple[int, ...]:
    """Return the offsets of the subsegments that a segment index names; empty if it names further indices."""
    version = sidx.integers("B")[0]
    first_offset = sidx.integers("8xQ" if version else "4xI", 12)[0]
    skip = 28 if version else 20
    (count,) = sidx.integers("2xH", skip)
    table = sidx.content[skip + 4 :][: count * 12]
    sizes = big_endian(table[: len(table) // 12 * 12], "I")[::3][:_MAX_REFERENCES]
    if any(size >> 31 for size in sizes):
        return ()
    return tuple(accumulate(sizes[:-1], initial=sidx.end + first_offset)) if sizes else ()


def indexed_by_mfra(file: SparseFile, max_boxes: int) -> tuple[int, ...]:
    """Return the offsets of the fragments by the index at the file's end; empty if it is damaged. Raises `Missing`."""
    size_bytes = file.size_bytes
    tail = file.read(size_bytes - 16, 16) if size_bytes >= 16 else b""
    length = int.from_bytes(tail[12:], "big")
    if tail[4:8] != b"mfro" or not 24 <= length <= min(size_bytes, 1 << 20):
        return ()
    index = file.read(size_bytes - length, length)
    try:
        mfra = box_at(index, 0, size_bytes - length, size_bytes).loaded(memoryview(index), max_boxes)
        boxes = mfra.children() if mfra.type == b"mfra" else []
        return tuple(sorted({offset for box in boxes if box.type == b"tfra" for offset in _indexed_by_tfra(box)}))
    except ScrubError:
        return ()


def _indexed_by_tfra(tfra: Box) -> Iterator[int]:
    version, sizes, count = tfra.integers("B3x4xII")
    for number in range(min(count, _MAX_REFERENCES)):
        yield tfra.integers("QQ" if version else "II", 16 + number * tfra_entry_bytes(version, sizes))[1]
