"""Which byte ranges hold the first seconds of a video track."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


class RangeCollector:
    """Joins samples in decoding order into few ranges, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.ranges: list[Range] = []
        self._bytes_left = max_bytes
        self._samples_left = _MAX_SAMPLES

    def add(self, sample: Range) -> bool:
        """Take the sample in; False (and nothing changed) when that is too much.

        Raises `Rejected` (too_large) when it is the first one: there is no poster without it.
        """
        last = self.ranges[-1] if self.ranges else None
        self._samples_left -= 1
        if last and last.offset <= sample.offset <= last.end + _JOINED_GAP_BYTES:
            wanted = Range(last.offset, max(last.end, sample.end) - last.offset)
            cost = wanted.length - last.length
        else:
            last, wanted, cost = None, sample, sample.length
        if cost > self._bytes_left or self._samples_left < 0 or (last is None and len(self.ranges) >= _MAX_RANGES):
            if not self.ranges:
                raise Rejected(Reason.TOO_LARGE, f"the first picture takes {sample.length} bytes")
            return False
        if last:
            self.ranges.pop()
        self.ranges.append(wanted)
        self._bytes_left -= cost
        return True


def table_samples(track: Track, bounds: VideoBounds) -> Iterable[Sample]:
    """The samples of the movie's own tables from the sync sample on with which the first edit begins."""
    starts_at = presentation_start(track)
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


def presentation_start(track: Track) -> int:
    """The media time at which the track is first shown."""
    return next((media_time for _, media_time in track.edits if media_time >= 0), 0)


def run_samples(runs: Sequence[Run]) -> Iterable[Sample]:
    """The samples of fragment runs of one track; their exact presentation time does not matter here."""
    for run in runs:
        offset, decoded_at = run.data.offset, run.starts_at
        for size, duration in zip(run.sizes, run.durations, strict=True):
            yield Sample(Range(offset, size), decoded_at, decoded_at, True)
            offset += size
            decoded_at += duration


def run_ranges(runs: Sequence[Run]) -> Iterable[Range]:
    """Where the samples of fragment runs lie."""
    return (sample.data for sample in run_samples(runs))


def choose_samples(
    samples: Iterable[Sample], timescale: int, starts_at: int, seconds: float, size_bytes: int, bounds: VideoBounds
) -> PosterSamples:
    """Collect ``samples`` until ``seconds`` after ``starts_at`` (media time) are covered, or the bytes run out.

    Raises `Rejected`: corrupt when there is not one sample inside the file, too_large when the first one alone
    exceeds what a poster may fetch.
    """
    collector = RangeCollector(bounds.max_poster_bytes)
    until = starts_at + (seconds + REORDERING_S) * timescale
    for sample in samples:
        if sample.decoded_at > until:
            break
        if sample.data.length == 0:
            continue
        if sample.data.end > size_bytes or not collector.add(sample.data):
            seconds = decodable_seconds(seconds, (sample.decoded_at - starts_at) / timescale)
            break
    if not collector.ranges:
        raise corrupt("no sample at the start of the video track")
    return PosterSamples(tuple(collector.ranges), seconds)
