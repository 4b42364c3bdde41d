"""Finds the bytes of ``mdat`` that belong to no kept sample.

Cameras leave positions there: in the samples of timed metadata tracks, and in blocks between the samples that no table
names. All of it is zeroed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

from avion_media.domain.ranges import Range, merged, missing
from avion_media.media.bounds import corrupt
from avion_media.media.formats.mp4.moov import Movie, Track

# Writers align chunks, which leaves thousands of gaps. A position takes more than this in every known format.
_ALIGNMENT_BYTES = 15


def kept_extents(movie: Movie, media: Sequence[Range]) -> Iterator[Range]:
    """Yield the ranges of the chunks of kept tracks, as their tables say."""
    starts = sorted({offset for track in movie.tracks for offset in track.table.chunks})
    for track in movie.kept:
        if _counts_frames(track):
            yield from _sound_chunks(track, starts, media)
        else:
            yield from track.table.chunk_ranges()


def _counts_frames(track: Track) -> bool:
    """Return whether the track is sound of a constant size. QuickTime counts it in frames, whose size can be wrong."""
    table = track.table
    return bool(track.sound and table.constant_size) and [delta for _, delta in table.durations[:1]] == [1]


def _sound_chunks(track: Track, starts: Sequence[int], media: Sequence[Range]) -> Iterator[Range]:
    """Yield each chunk with the length that the sample entry implies, because a decoder reads that.

    Uncompressed sound is at least as long as the table says, in case the table is right. No chunk extends beyond the
    next chunk of any track, nor beyond its ``mdat``.
    """
    constant_size = track.table.constant_size
    for chunk in track.table.chunk_ranges():
        frames = chunk.length // constant_size
        lengths = (
            each.bytes_of(frames) if each.frames > 1 else max(each.bytes_of(frames), chunk.length)
            for each in track.sound
        )
        end = chunk.offset + max(lengths)
        if end > chunk.end:
            end = max(chunk.end, min(end, _limit(chunk.offset, starts, media)))
        yield Range(chunk.offset, end - chunk.offset)


def _limit(offset: int, starts: Sequence[int], media: Sequence[Range]) -> int:
    """Return where the chunk after the one at ``offset`` begins, or the ``mdat`` around it ends, whichever is first."""
    following = bisect.bisect_right(starts, offset)
    box = _enclosing(media, offset)
    ends = [*starts[following : following + 1], *([box.end] if box else [])]
    return min(ends, default=offset)


def _enclosing(media: Sequence[Range], offset: int) -> Range | None:
    index = bisect.bisect_right(media, offset, key=lambda each: each.offset) - 1
    return media[index] if index >= 0 and offset < media[index].end else None


def unreferenced(media: Sequence[Range], kept: Iterable[Range], size_bytes: int, *, dropped: bool) -> tuple[Range, ...]:
    """Return the parts of ``media`` (contents of ``mdat`` boxes, sorted) outside ``kept``.

    Gaps that only align chunks are left out, unless there are private samples (``dropped``), which can be as short.

    Raises `Rejected` (corrupt) if a kept range begins outside ``media``: the scrub of other boxes would destroy it.
    """
    extents = merged(kept)
    for each in extents:
        if each.offset < size_bytes and _enclosing(media, each.offset) is None:
            raise corrupt(f"samples at {each.offset} lie outside the media data")
    longest_left = 0 if dropped else _ALIGNMENT_BYTES
    return tuple(gap for gap in missing(media, extents) if gap.length > longest_left)
