"""Clusters and their blocks: where the first seconds are, and when the last frame is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate

from mediascrub.bounds import VideoBounds
from mediascrub.coded_data.changes import number_of_255s
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.matroska.ebml import Element, Elements, read_number
from mediascrub.matroska.tracks import SegmentTiming, TrackEntry
from mediascrub.movie import REORDERING_S, PosterSamples, decodable_seconds
from mediascrub.ranges import Range
from mediascrub.sparse import SparseFile

_LACING, _XIPH_LACING, _FIXED_LACING = 0x06, 0x02, 0x04  # of a block's flags; the third is EBML's
_BLOCK_HEAD_BYTES = 11  # track number (up to 8), time (2), flags
_MIN_FETCH_BYTES, _NEXT_FETCH_BYTES = 256 << 10, 1 << 20
_MAX_LAST_CLUSTER_BYTES = 8 << 20


class InCluster(IntEnum):
    """The children of a cluster that stay."""

    SIMPLE_BLOCK, BLOCK_GROUP = 0xA3, 0xA0
    TIMESTAMP, POSITION, PREV_SIZE = 0xE7, 0xA7, 0xAB


class InGroup(IntEnum):
    """The children of a BlockGroup that stay."""

    BLOCK, BLOCK_DURATION, REFERENCE_BLOCK, REFERENCE_PRIORITY = 0xA1, 0x9B, 0xFB, 0xFA
    DISCARD_PADDING, BLOCK_ADDITIONS = 0x75A2, 0x75A1


BLOCKS = (InCluster.SIMPLE_BLOCK, InCluster.BLOCK_GROUP)


@dataclass(frozen=True, slots=True)
class BlockHead:
    """A SimpleBlock or BlockGroup: ``ticks`` on the segment's clock, the range of its frames, and how they share it."""

    element: Element
    track: int
    ticks: int
    lacing: int
    data: Range


class BlockReader(Elements):
    """Reads elements and blocks."""

    def blocks(self, cluster: Element) -> Iterator[BlockHead]:
        """Yield the blocks that are completely inside the cluster, in order."""
        ticks = 0
        for child in self.series(cluster.payload, cluster.end):
            if child.end > cluster.end:
                return  # the file is cut off in it
            if child.id == InCluster.TIMESTAMP:
                ticks = int.from_bytes(self.content(child, 8), "big")
            elif child.id in BLOCKS:
                yield self.block(child, ticks)

    def block(self, element: Element, cluster_ticks: int = 0) -> BlockHead:
        """Read the head of a SimpleBlock or BlockGroup, whose cluster begins at ``cluster_ticks``."""
        block: Element | None = element
        if element.id == InCluster.BLOCK_GROUP:
            children = self.series(element.payload, element.end)
            block = next((child for child in children if child.id == InGroup.BLOCK), None)
        if block is None or block.end > element.end:
            raise corrupt(f"no block in the group at {element.offset}")
        head = self.content(block, _BLOCK_HEAD_BYTES)
        track, width = read_number(head, 0)
        if len(head) < width + 2:
            raise corrupt(f"block at {block.offset} is too short")
        ticks = cluster_ticks + int.from_bytes(head[width : width + 2], "big", signed=True)
        lacing = int.from_bytes(head[width + 2 : width + 3], "big") & _LACING
        start = block.payload + width + 3
        return BlockHead(element, track, ticks, lacing, Range(start, block.end - start))

    def frames(self, block: BlockHead) -> list[Range]:
        """Return the ranges of the frames of a block; none if its lacing is impossible."""
        if not block.lacing:
            return [block.data] if block.data.length > 0 else []
        try:
            return _laced(block.lacing, self._file.read(*block.data), block.data.offset)
        except (IndexError, ScrubError):
            return []


def _laced(lacing: int, data: bytes, start: int) -> list[Range]:
    """Return the frames that share a block (RFC 9559, section 10.3). Raises IndexError or `ScrubError`."""
    others, position = data[0], 1  # all but the last one
    lengths: list[int] = []
    for _ in range(others if lacing != _FIXED_LACING else 0):
        if lacing == _XIPH_LACING:
            length, position = number_of_255s(data, range(len(data)), position)
        else:  # from the second frame on, the difference from the length before
            length, width = read_number(data, position)
            length += lengths[-1] - (1 << 7 * width - 1) + 1 if lengths else 0
            position += width
        lengths.append(length)
    if lacing == _FIXED_LACING:
        lengths = [(len(data) - position) // (others + 1)] * others
    lengths.append(len(data) - position - sum(lengths))
    offsets = accumulate(lengths, initial=start + position)
    return list(map(Range, offsets, lengths)) if min(lengths) >= 0 else []


def choose_clusters(
    file: SparseFile,
    clusters: Sequence[Element],
    video: TrackEntry,
    timing: SegmentTiming,
    seconds: float,
    bounds: VideoBounds,
) -> PosterSamples:
    """Return the ranges, from the first cluster on, with the first ``seconds`` of ``video``.

    Raises `Missing`, because only blocks have times. No block is CORRUPT, one too far from the start TOO_LARGE.
    """
    start = clusters[0].offset
    stop = min(start + bounds.max_poster_bytes, file.size_bytes)
    # A generous estimate by the mean bit rate.
    bytes_per_s = file.size_bytes / timing.duration_s if timing.duration_s > 0 else 0.0
    file.require([Range(start, int(min(max(1.3 * bytes_per_s * (seconds + 1), _MIN_FETCH_BYTES), stop - start)))])
    reader = BlockReader(file.reading_ahead(_NEXT_FETCH_BYTES), bounds.max_boxes)
    first_s: float | None = None
    end, covered = start, 0.0
    for block in (block for cluster in clusters for block in reader.blocks(cluster)):
        if block.element.end > stop:
            seconds = decodable_seconds(seconds, covered)
            break
        if block.track == video.number:
            shown_s = block.ticks * timing.scale / 1e9
            first_s = shown_s if first_s is None else first_s
            covered = shown_s - first_s
            if covered > seconds + REORDERING_S:
                end = block.element.offset
                break
        end = block.element.end
    if first_s is None:
        if stop < file.size_bytes:
            raise ScrubError(ScrubCode.TOO_LARGE, "the first picture lies too far from the start")
        raise corrupt("a video track without blocks")
    return PosterSamples((Range(start, end - start),), seconds)


def last_shown_s(
    file: SparseFile,
    clusters: Sequence[Element],
    timing: SegmentTiming,
    tracks: Sequence[TrackEntry],
    bounds: VideoBounds,
) -> float:
    """Return when the last frame ends, in seconds, by the last cluster's blocks. Raises `Missing`, `ScrubError`."""
    last = clusters[-1]
    last = last.until(min(last.end, last.offset + _MAX_LAST_CLUSTER_BYTES))
    file.require([last.whole])
    frame_s = {track.number: track.frame_s for track in tracks}
    blocks = BlockReader(file, bounds.max_samples).blocks(last)
    return max((each.ticks * timing.scale / 1e9 + frame_s.get(each.track, 0.0) for each in blocks), default=0.0)
