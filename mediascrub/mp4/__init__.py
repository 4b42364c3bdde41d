"""MP4 and MOV: walks the top-level boxes, reads the index, and plans poster and scrub."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.credentials import (
    BOX_HEAD_BYTES,
    MANIFEST_HEAD_BYTES,
    Credentials,
    credentials_in_place,
    is_manifest_box,
)
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format
from mediascrub.isobmff import Box, box_at, first, required
from mediascrub.movie import (
    REORDERING_S,
    CodedSample,
    Edits,
    MoviePlan,
    PosterSamples,
    coded_patches,
    decodable_seconds,
    sound_plan,
)
from mediascrub.mp4.cut import without_hidden
from mediascrub.mp4.moof import Run, indexed_by_mfra, indexed_by_sidx, read_fragment
from mediascrub.mp4.moov import Movie, Track, read_movie
from mediascrub.mp4.scrub import MovieScrub, clean_top, free, kept_extents, unreferenced
from mediascrub.ranges import Patch, Range, merged
from mediascrub.sample_table import MediaSample
from mediascrub.sparse import SparseFile, eager_window

_HEADER_BYTES = 16
_STAYS = frozenset((b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"mfra"))
_CLEANED = frozenset((b"ftyp", b"styp", b"sidx"))
_READ_WHOLE = frozenset((b"ftyp", b"styp", b"sidx", b"moof", b"moov"))  # by libav, before the samples
_MAX_RANDOM_ACCESS_BYTES = 4 << 20  # an entry for each fragment: 4 h with one a second, of two tracks, take 600 kB
_MAX_UUID_BOXES = 16  # of which the content is read; that of a manifest comes first
_FRAGMENT_HEAD_BYTES = 4096  # most moof boxes of two tracks fit
# Of the poster.
_JOINED_GAP_BYTES = 64 << 10  # another request costs more than this
_MAX_RANGES = 64
_MAX_SAMPLES = 20_000


def plan(file: SparseFile, fmt: Format, *, poster_s: float, bounds: VideoBounds) -> MoviePlan:
    """See `MovieFormat`."""
    boxes = _read_boxes(file, bounds)
    moov = _loaded(file, required(boxes, b"moov", "the file"), bounds)
    movie = read_movie(moov, bounds)
    if fmt is Format.M4A or (fmt.other is Format.M4A and movie.has_sound_alone):
        file.require([file.whole])
        fmt, movie = Format.M4A, replace(movie, is_audio=True)
    if not any(box.type == b"moof" for box in boxes):
        movie = without_hidden(movie, bounds)
    video = None if movie.is_audio else movie.main_video
    if video is not None:
        bounds.check_size(*video.size, video.pixel_aspect)
    kept, edits = movie.kept, Edits(file.peek)
    runs = _read_fragments(file, boxes, movie, edits, bounds)
    duration_s = max(_duration_s(movie, track, _of(track, runs)) for track in kept)
    bounds.check_duration(duration_s)
    MovieScrub(kept, edits).walk(moov)
    _scrub(file, fmt, boxes, movie, runs, edits, bounds)
    if video is None:
        patches = edits.joined_with(())
        return sound_plan(file, fmt, duration_s, patches, _credentials(file, boxes, patches))
    poster = _choose_samples(video, _of(video, runs), poster_s, file.size_bytes, bounds)
    if not poster.ranges:
        raise corrupt("no sample at the start of the video track")
    beginnings = [*poster.ranges]
    for track in (each for each in kept if each is not video and each.coding is not None):
        beginnings += _choose_samples(track, _of(track, runs), poster_s, file.size_bytes, bounds).ranges
    patches = edits.joined_with(coded_patches(file, _coded_samples(movie, runs), beginnings))
    return MoviePlan(
        format=fmt,
        stream=f"i:{video.track_id}",
        pixels=int(math.prod(video.size)),
        duration_s=duration_s,
        poster_s=poster.seconds,
        poster_ranges=_poster_ranges(boxes, moov, poster),
        patches=patches,
        credentials=_credentials(file, boxes, patches),
    )


def _loaded(file: SparseFile, box: Box, bounds: VideoBounds) -> Box:
    return box.loaded(memoryview(file.read(box.offset, box.size)), bounds.max_boxes)


def _of(track: Track, runs: Sequence[Run]) -> tuple[Run, ...]:
    return tuple(run for run in runs if run.track_id == track.track_id)


def _read_boxes(file: SparseFile, bounds: VideoBounds) -> list[Box]:
    """Return the top-level boxes in order. The bytes after the last one are not boxes."""
    boxes: list[Box] = []
    offset = 0
    count = Quota(bounds.max_boxes, "boxes")
    index_bytes = Quota(bounds.max_index_bytes, "bytes of index", ScrubCode.TOO_LARGE)
    while offset + 8 <= file.size_bytes:
        fragments = sum(box.type == b"moof" for box in boxes[-8:])
        # Among fragments without an index, fetch in growing windows.
        ahead = file.reading_ahead(eager_window(len(boxes)) if fragments else 0)
        head = ahead.read(offset, min(_HEADER_BYTES, file.size_bytes - offset))
        try:
            box = box_at(head, 0, offset, file.size_bytes)
        except ScrubError:
            break
        if box.end > file.size_bytes:
            if box.type != b"mdat":
                break
            # A file that is cut off in its samples plays up to there.
            box = Box(box.type, box.offset, box.header, file.size_bytes - box.offset)
        if box.type in (b"ftyp", b"moov") and first(boxes, box.type):
            # The first one counts, as in players; another one is like an unknown box.
            box = Box(b"", box.offset, box.header, box.size)
        count.take()
        index_bytes.take(box.size if box.type in _READ_WHOLE else 0)
        boxes.append(box)
        offset = box.end
        if box.type == b"moof" and fragments == 0:
            _fetch_ahead(file, boxes, bounds)
    return boxes


def _credentials(file: SparseFile, boxes: Sequence[Box], patches: Sequence[Patch]) -> Credentials | None:
    """Return the credentials in the first ``uuid`` box with a manifest. Its head must be present."""
    candidates = [box for box in boxes if box.type == b"uuid"][:_MAX_UUID_BOXES]
    lengths = [min(BOX_HEAD_BYTES + MANIFEST_HEAD_BYTES, box.end - box.payload) for box in candidates]
    heads = [Range(box.payload, length) for box, length in zip(candidates, lengths, strict=True)]
    file.require(heads)
    for box, head in zip(candidates, heads, strict=True):
        if is_manifest_box(content := file.read(*head)):
            manifest = Range(box.payload + BOX_HEAD_BYTES, box.end - box.payload - BOX_HEAD_BYTES)
            return credentials_in_place(content[BOX_HEAD_BYTES:], manifest, Range(box.offset, box.size), patches)
    return None


def _fetch_ahead(file: SparseFile, boxes: Sequence[Box], bounds: VideoBounds) -> None:
    """Ask for the beginnings of all fragments at once, if an index names them."""
    known: list[int] = []
    for box in boxes:
        if box.type == b"sidx":
            known.extend(indexed_by_sidx(_loaded(file, box, bounds)))
    if not known:
        known.extend(indexed_by_mfra(file, bounds.max_boxes))
    file.require(Range(offset, _FRAGMENT_HEAD_BYTES) for offset in known if offset < file.size_bytes)


def _duration_s(movie: Movie, track: Track, runs: Sequence[Run]) -> float:
    media = track.table.duration
    if runs:
        begins = 0 if track.table.count else min(run.starts_at for run in runs)
        media = max(media, max(run.ends_at for run in runs) - begins)
    media_s = media / track.timescale
    if not track.edits or runs:  # the edits of a fragmented movie were written before its length was known
        return max(0.0, media_s - track.presentation_start / track.timescale)
    return sum(
        duration / movie.timescale or max(0.0, media_s - media_time / track.timescale)
        for duration, media_time, _ in track.edits
    )


def _read_fragments(
    file: SparseFile, boxes: Sequence[Box], movie: Movie, edits: Edits, bounds: VideoBounds
) -> tuple[Run, ...]:
    """Return the runs of all fragments in file order, and scrub the fragments on the way."""
    fragments = [box for box in boxes if box.type == b"moof"]
    file.require(Range(box.offset, box.size) for box in fragments)
    quota = Quota(bounds.max_samples, "samples")
    clock = {track.track_id: track.table.duration for track in movie.tracks if track.table.count}
    runs: list[Run] = []
    for box in fragments:
        moof = _loaded(file, box, bounds)
        runs.extend(read_fragment(moof, movie, clock, quota))
        MovieScrub(movie.kept, edits).walk(moof)
    return tuple(runs)


def _choose_samples(
    track: Track, runs: Sequence[Run], seconds: float, size_bytes: int, bounds: VideoBounds
) -> PosterSamples:
    """Join the samples of ``track`` and its ``runs`` until its first ``seconds`` are covered, or the bytes run out."""
    starts_at = track.presentation_start
    if not track.table.count and runs:
        starts_at += runs[0].starts_at
    until = starts_at + (seconds + REORDERING_S) * track.timescale
    samples = chain(_table_samples(track, bounds), *(run.samples() for run in runs))
    ranges: list[Range] = []
    bytes_left = bounds.max_poster_bytes
    for number, sample in enumerate(samples):
        data = sample.data
        if sample.decoded_at > until:
            break
        if data.length == 0:
            continue
        last = ranges[-1] if ranges else None
        joined = last is not None and last.offset <= data.offset <= last.end + _JOINED_GAP_BYTES
        if last is not None and joined:
            data = Range(last.offset, max(last.end, data.end) - last.offset)
            bytes_left += last.length
        bytes_left -= data.length
        beyond = sample.data.end > size_bytes
        too_much = bytes_left < 0 or number >= _MAX_SAMPLES or len(ranges) - joined >= _MAX_RANGES
        if too_much and last is None and not beyond:
            raise ScrubError(ScrubCode.TOO_LARGE, f"the first picture takes {data.length} bytes")
        if too_much or beyond:
            seconds = decodable_seconds(seconds, (sample.decoded_at - starts_at) / track.timescale)
            break
        ranges[len(ranges) - joined :] = [data]
    return PosterSamples(tuple(ranges), seconds)


def _table_samples(track: Track, bounds: VideoBounds) -> Iterator[MediaSample]:
    """Yield the samples of the movie's own tables, from the sync sample at which the first edit begins."""
    starts_at = track.presentation_start
    pending: list[MediaSample] = []
    samples = track.table.samples()
    for passed, sample in enumerate(samples):
        if passed >= bounds.max_samples:
            raise ScrubError(ScrubCode.TOO_COMPLEX, "too many samples before the first edit")
        if sample.sync and sample.shown_at <= starts_at:
            pending.clear()
        pending.append(sample)
        if sample.decoded_at >= starts_at or len(pending) > _MAX_SAMPLES:
            break
    yield from pending
    yield from samples


def _poster_ranges(boxes: Sequence[Box], moov: Box, poster: PosterSamples) -> tuple[Range, ...]:
    """Return the samples, the index, and every box header before them: to libav, a hole is the end of the file."""
    last = max(moov.offset, poster.ranges[-1].end)
    on_the_way = [box for box in boxes if box.offset <= last]
    headers = [Range(box.offset, min(_HEADER_BYTES, box.size)) for box in on_the_way]
    wholes = [Range(box.offset, box.size) for box in on_the_way if box.type in _READ_WHOLE]
    return merged(chain(headers, wholes, poster.ranges))


def _scrub(
    file: SparseFile,
    fmt: Format,
    boxes: Sequence[Box],
    movie: Movie,
    runs: Sequence[Run],
    edits: Edits,
    bounds: VideoBounds,
) -> None:
    """Scrub everything outside ``moov`` and ``moof``."""
    kept_ids = {track.track_id for track in movie.kept}
    media = [Range(box.payload, box.end - box.payload) for box in boxes if box.type == b"mdat"]
    kept = [*kept_extents(movie, media), *(run.data for run in runs if run.track_id in kept_ids)]
    kept = _without_a_cut_off_sample(kept, _coded_samples(movie, runs), file.size_bytes)
    dropped = len(kept_ids) < len(movie.tracks) or any(track.cut for track in movie.tracks)
    for gap in unreferenced(media, kept, file.size_bytes, dropped=dropped):
        edits.zero(*gap)
    file.require(Range(box.offset, box.size) for box in boxes if box.type in _CLEANED)
    for box in boxes:
        if box.type not in _STAYS:
            free(edits, box)
        elif box.type in _CLEANED:
            clean_top(edits, _loaded(file, box, bounds), fmt)
    _scrub_random_access(file, boxes, movie, edits, bounds)
    offset, length = boxes[-1].end, file.size_bytes - boxes[-1].end
    if length >= 8:  # they become a box, beyond 32 bits one of size 0: up to the end
        edits.put(offset, struct.pack(">I4s", length if length < 1 << 32 else 0, b"free"))
        offset, length = offset + 8, length - 8
    edits.zero(offset, length)


def _without_a_cut_off_sample(kept: list[Range], samples: Iterable[CodedSample], size_bytes: int) -> list[Range]:
    """Return the ranges of ``kept`` without the sample that the end of the file cuts off: players show nothing of it.

    ``samples`` are read only if a range ends behind the file.
    """
    if all(each.end <= size_bytes for each in kept):
        return kept
    end = max((data.offset for data, _, _ in samples if data.offset < size_bytes < data.end), default=0)
    return [
        Range(each.offset, end - each.offset) if each.offset <= end and each.end > size_bytes else each for each in kept
    ]


def _scrub_random_access(
    file: SparseFile, boxes: Sequence[Box], movie: Movie, edits: Edits, bounds: VideoBounds
) -> None:
    """Scrub the last ``mfra``, which is the one that counts. Players do not need it: a damaged one becomes ``free``."""
    indices = [box for box in boxes if box.type == b"mfra"]
    for box in indices:
        inside = Edits(file.peek)
        try:
            if box is not indices[-1] or box.size > _MAX_RANDOM_ACCESS_BYTES:
                raise corrupt("not the index, or too large for one")
            MovieScrub(movie.kept, inside).walk(_loaded(file, box, bounds))
            edits.patches += inside.patches
        except ScrubError:
            free(edits, box)


def _coded_samples(movie: Movie, runs: Sequence[Run]) -> Iterator[CodedSample]:
    """Yield the samples of kept tracks that might have private messages."""
    for track in movie.kept:
        if track.coding is not None:
            for data in track.table.sample_ranges():
                yield data, track.coding, track.private
            for sample in chain.from_iterable(run.samples() for run in _of(track, runs)):
                yield sample.data, track.coding, track.private
