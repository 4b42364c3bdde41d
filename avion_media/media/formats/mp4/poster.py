"""Finds the byte ranges of the first seconds of a video track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.ranges import Range
from avion_media.media.bounds import VideoBounds, corrupt
from avion_media.media.formats.movie import REORDERING_S, PosterSamples, decodable_seconds
from avion_media.media.formats.mp4.moof import Run
from avion_media.media.formats.mp4.moov import Track
from avion_media.media.formats.sample_table import Sample

_JOINED_GAP_BYTES = 64 << 10  # another request costs more than this
_MAX_RANGES = 64
_MAX_SAMPLES = 20_000


def _table_samples(track: Track, bounds: VideoBounds) -> Iterator[Sample]:
    """Yield the samples of the movie's own tables, from the sync sample at which the first edit begins."""
    starts_at = track.presentation_start
    pending: list[Sample] = []
    samples = track.table.samples()
    for passed, sample in enumerate(samples):
        if passed >= bounds.max_samples:
            raise Rejected(Reason.DECODER_LIMIT, "too many samples before the first edit")
        if sample.sync and sample.shown_at <= starts_at:
            pending.clear()
        pending.append(sample)
        if sample.decoded_at >= starts_at or len(pending) > _MAX_SAMPLES:
            break
    yield from pending
    yield from samples


def choose_samples(
    track: Track, runs: Sequence[Run], seconds: float, size_bytes: int, bounds: VideoBounds
) -> PosterSamples:
    """Join the samples of ``track`` and its ``runs`` until its first ``seconds`` are covered, or the bytes run out.

    Raises `Rejected`: corrupt if no sample is inside the file, too_large if the first one alone exceeds the limit for
    a poster.
    """
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
            raise Rejected(Reason.TOO_LARGE, f"the first picture takes {data.length} bytes")
        if too_much or beyond:
            seconds = decodable_seconds(seconds, (sample.decoded_at - starts_at) / track.timescale)
            break
        ranges[len(ranges) - joined :] = [data]
    if not ranges:
        raise corrupt("no sample at the start of the video track")
    return PosterSamples(tuple(ranges), seconds)
