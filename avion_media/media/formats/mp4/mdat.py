"""Which bytes of ``mdat`` belong to no sample that stays.

Cameras leave positions there: in the samples of timed metadata tracks, and in blocks between the samples that no table
names. All of it is zeroed, whatever it is.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

from avion_media.domain.ranges import Range, merged
from avion_media.media.bounds import corrupt
from avion_media.media.formats.mp4.moov import Movie, Track

# Writers align chunks, which leaves gaps by the thousand; a position in any format known takes more than this.
_ALIGNMENT_BYTES = 15


def kept_extents(movie: Movie, media: Sequence[Range]) -> Iterator[Range]:
    """Where the chunks of the tracks that stay lie, as their tables say."""
    starts = sorted({offset for track in movie.tracks for offset in track.table.chunks})
    for track in movie.kept:
        if _counts_frames(track):
            yield from _sound_chunks(track, starts, media)
        else:
            yield from track.table.chunk_ranges()


def _counts_frames(track: Track) -> bool:
    """QuickTime counts sound of a constant size in frames, and what its table says of their size may be wrong."""
    table = track.table
    return bool(track.sound and table.constant_size) and [delta for _, delta in table.durations[:1]] == [1]


def _sound_chunks(track: Track, starts: Sequence[int], media: Sequence[Range]) -> Iterator[Range]:
    """Each chunk as long as the sample entry says: what a decoder reads of it.

    Uncompressed sound is at least as long as the table says, in case that the table is right. Where that is not
    enough, the chunk reaches no further than to the next one of any track, nor beyond its ``mdat``.
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
    """Where the chunk behind the one at ``offset`` begins, or the ``mdat`` around it ends."""
    following = bisect.bisect_right(starts, offset)
    box = _enclosing(media, offset)
    ends = [*starts[following : following + 1], *([box.end] if box else [])]
    return min(ends, default=offset)


def _enclosing(media: Sequence[Range], offset: int) -> Range | None:
    index = bisect.bisect_right(media, offset, key=lambda each: each.offset) - 1
    return media[index] if index >= 0 and offset < media[index].end else None


def unreferenced(media: Sequence[Range], kept: Iterable[Range], size_bytes: int, *, dropped: bool) -> tuple[Range, ...]:
    """The parts of ``media`` (contents of ``mdat`` boxes, sorted) outside ``kept``.

    Gaps that only align what follows are left out, unless there are private samples (``dropped``), which may be
    as short.

    Raises `Rejected` (corrupt) when something kept begins outside ``media``: zeroing other boxes would destroy it.
    """
    extents = merged(kept)
    for each in extents:
        if each.offset < size_bytes and _enclosing(media, each.offset) is None:
            raise corrupt(f"samples at {each.offset} lie outside the media data")
    longest_left = 0 if dropped else _ALIGNMENT_BYTES
    return tuple(gap for box in media for gap in _gaps(box, extents) if gap.length > longest_left)


def _gaps(box: Range, extents: Sequence[Range]) -> Iterator[Range]:
    offset = box.offset
    for index in range(bisect.bisect_left(extents, box.offset, key=lambda each: each.offset), len(extents)):
        extent = extents[index]
        if extent.offset >= box.end:
            break
        yield Range(offset, extent.offset - offset)
        offset = min(extent.end, box.end)
    yield Range(offset, box.end - offset)
