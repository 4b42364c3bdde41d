"""What was cut away: samples that no edit shows, and no shown sample needs, leave the tables of their track.

So players do not read them, and the scrub of ``mdat`` overwrites them as it does all that no table names. What stays:

- samples from the key picture before the first edit on, because shown pictures depend on them;
- a second of sound before the first edit, which libav decodes first, because codecs need some;
- what lies between two edits, and all samples of fragments, and of edits at another speed;
- all of a track whose new tables would be longer, or whose sound is counted in frames of an uncertain size.
"""

from __future__ import annotations

from dataclasses import replace

from mediascrub.bounds import VideoBounds
from mediascrub.movie import Edits
from mediascrub.mp4.moov import Movie, Track
from mediascrub.ranges import Range

HEADER_BYTES = 8  # of a box
_NORMAL_RATE = 1 << 16
_PRE_ROLL_S = 1.0
_PADDING_S = 0.1  # encoders of sound fill their last packets: no reason to write tables again


def without_hidden(movie: Movie, bounds: VideoBounds) -> Movie:
    """Return the movie with only the samples that are needed. A track that changes is marked as cut."""
    kept = movie.kept
    cut = (_cut(each, movie.timescale, bounds) if each in kept else each for each in movie.tracks)
    return replace(movie, tracks=tuple(cut))


def _cut(track: Track, timescale: int, bounds: VideoBounds) -> Track:
    table, place = track.table, place_of_tables(track)
    start, end = _needed(track, timescale, bounds)
    if not track.edits or place is None or start >= end or (start, end) == (0, table.count):
        return track
    part = table.part(start, end)
    room = place.length - len(part.boxes())
    ticks = table.part(0, start).duration
    edits = tuple((duration, time - ticks if time >= 0 else time, rate) for duration, time, rate in track.edits)
    earliest = min(time for _, time, _ in track.edits if time >= 0)
    if part.count < end - start or room < 0 or 0 < room < HEADER_BYTES or earliest < ticks:
        return track
    return replace(track, table=part, edits=edits, cut=True)


def _needed(track: Track, timescale: int, bounds: VideoBounds) -> tuple[int, int]:
    """Return the index of the first sample that must stay, and that behind the last one: all if that is not certain."""
    table, whole = track.table, (0, track.table.count)
    shown = [edit for edit in track.edits if edit[1] >= 0]
    begin = min((time for _, time, _ in shown), default=0)
    if not shown or any(duration == 0 or rate != _NORMAL_RATE for duration, _, rate in shown):
        return whole
    # A tick of the movie more, because writers round.
    end = max(time + -(-(duration + 1) * track.timescale // timescale) for duration, time, _ in shown)
    if track.handler == b"soun":
        uncertain = table.constant_size and any(
            each.frames > 1 or each.size_bytes != table.constant_size for each in track.sound
        )
        first = table.index_at(begin - int(_PRE_ROLL_S * track.timescale))
        last = table.index_at(end + int(_PADDING_S * track.timescale))
        return whole if uncertain else (first, min(last + 1, table.count))
    if table.constant_size or table.count > bounds.max_samples:
        return whole
    times = table.shown_at()
    last = max((index for index, time in enumerate(times) if time < end), default=0)
    sync = range(len(times)) if table.sync is None else (index for index in table.sync if index < len(times))
    return max((index for index in sync if times[index] <= begin), default=0), last + 1


def place_of_tables(track: Track) -> Range | None:
    """Return where the tables are, one after the other behind or before the sample entries; None if around these."""
    first, last = track.tables[0], track.tables[-1]
    if first.type == b"stsd":
        return Range(first.end, last.end - first.end)
    return Range(first.offset, last.offset - first.offset) if last.type == b"stsd" else None


def write_tables(track: Track, edits: Edits) -> None:
    """Write the tables of a track that was cut, and its edits, which begin earlier by what is gone."""
    place, boxes = place_of_tables(track), track.table.boxes()
    assert place is not None
    edits.put(place.offset, boxes)
    if place.length > len(boxes):
        put_free(edits, place.offset + len(boxes), place.end)


def put_free(edits: Edits, start: int, end: int) -> None:
    """Write a ``free`` box of zeros over this part of the file, which has room for its header."""
    edits.put(start, (end - start).to_bytes(4, "big") + b"free")
    edits.zero(start + HEADER_BYTES, end - start - HEADER_BYTES)
