"""Matroska and WebM: walks the segment, reads its headers, and plans poster and scrub."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format
from mediascrub.matroska.clusters import BlockReader, choose_clusters, last_shown_s
from mediascrub.matroska.ebml import CRC_32, MAX_HEADER_BYTES, Element, Elements, Id, element_at
from mediascrub.matroska.scrub import SEEK, SEEK_ID, HeaderScrub, scrub_cluster, void
from mediascrub.matroska.tracks import (
    TrackEntry,
    has_sound_alone,
    kept_tracks,
    main_sound,
    main_video,
    read_timing,
    read_tracks,
    stream_of,
)
from mediascrub.movie import CodedSample, Edits, MoviePlan, PosterSamples, coded_patches, overlaps, sound_plan
from mediascrub.ranges import Patch, Range, merged, missing, total_bytes
from mediascrub.sparse import SparseFile, eager_window

_TOP_LEVEL = frozenset(Id)
_CUE_POINT, _CUE_TRACK_POSITIONS, _CUE_CLUSTER = 0xBB, 0xB7, 0xF1
_SEEK_POSITION = 0x53AC
_MAX_EBML_HEADER_BYTES = 4096
_MAX_CUES_BYTES = 4 << 20
_MAX_CUED_CLUSTERS = 512  # for each of them a range is fetched
_WHOLE_BYTES = 1 << 20  # elements before the first cluster that libav reads while opening


@dataclass
class _Layout:
    """The contents of a segment, in file order. The end of each cluster is known, even if the file does not say it."""

    payload: int
    end: int  # of what was read so far
    headers: list[Element]  # EBML, SeekHead, Info, Tracks
    clusters: list[Element] = field(default_factory=list)
    private: list[Element] = field(default_factory=list)  # become Void

    def first(self, identifier: int) -> Element:
        found = next((element for element in self.headers if element.id == identifier), None)
        if found is None:
            raise corrupt(f"no element {identifier:x} in the segment")
        return found


def plan(file: SparseFile, fmt: Format, *, poster_s: float, bounds: VideoBounds) -> MoviePlan:
    """See `MovieFormat`."""
    layout = _read_layout(file, bounds)
    headers = [each.whole for each in layout.headers]
    if total_bytes(headers) > bounds.max_index_bytes:
        raise ScrubError(ScrubCode.TOO_LARGE, "segment headers")
    file.require(headers)
    elements = Elements(file, bounds.max_boxes)
    timing = read_timing(elements, layout.first(Id.INFO))
    tracks = read_tracks(elements, layout.first(Id.TRACKS), bounds)
    is_audio = fmt is Format.WEBA or (fmt.other is Format.WEBA and has_sound_alone(tracks))
    main = main_sound(tracks) if is_audio else main_video(tracks)
    if not is_audio:
        bounds.check_size(*main.size, main.pixel_aspect)
    if not layout.clusters:
        raise corrupt("no cluster")
    duration_s = timing.duration_s or last_shown_s(file, layout.clusters, timing, tracks, bounds)
    bounds.check_duration(duration_s)
    if is_audio:
        file.require([file.whole])
        return sound_plan(file, Format.WEBA, duration_s, _scrub(file, layout, tracks, [main], (), bounds))
    kept = kept_tracks(tracks)
    poster = choose_clusters(file, layout.clusters, main, timing, poster_s, bounds)
    return MoviePlan(
        format=fmt,
        stream=stream_of(main, kept),
        pixels=math.prod(main.size),
        duration_s=duration_s,
        poster_s=poster.seconds,
        poster_ranges=_poster_ranges(layout, poster),
        patches=_scrub(file, layout, tracks, kept, poster.ranges, bounds),
    )


def _read_layout(file: SparseFile, bounds: VideoBounds) -> _Layout:
    head = element_at(file, 0)
    if head.id != Id.EBML or head.end > _MAX_EBML_HEADER_BYTES:
        raise corrupt("no EBML header")
    segment = element_at(file, head.end)
    if segment.id != Id.SEGMENT:
        raise corrupt("no segment behind the EBML header")
    end = file.size_bytes if segment.size is None else min(segment.end, file.size_bytes)
    layout = _Layout(segment.payload, segment.payload, [head])
    quota = Quota(bounds.max_boxes, "elements")
    while layout.end < end and (element := _next_element(file, layout, bounds)):
        layout.end = element.end
        quota.take()
    return layout


def _next_element(file: SparseFile, layout: _Layout, bounds: VideoBounds) -> Element | None:
    """Add the element at the end of the layout, and return it; None at the end of the segment."""
    window = eager_window(len(layout.clusters)) if len(layout.clusters) > 1 else 0
    try:
        element = element_at(file.reading_ahead(window), layout.end)
    except ScrubError:
        if layout.end + MAX_HEADER_BYTES > file.size_bytes:
            return None  # cut off in a header
        raise
    if element.id in (Id.EBML, Id.SEGMENT):
        return None  # another segment in the same file is never shown
    if element.id == Id.CLUSTER:
        return _add_cluster(file, layout, element, bounds)
    if element.end > file.size_bytes:
        return None
    # The first Info and the first Tracks count.
    repeated = element.id != Id.SEEK_HEAD and any(each.id == element.id for each in layout.headers)
    if element.id in (Id.INFO, Id.TRACKS, Id.SEEK_HEAD) and not repeated:
        layout.headers.append(element)
    elif element.id != Id.CUES:
        layout.private.append(element)
    return element


def _add_cluster(file: SparseFile, layout: _Layout, cluster: Element, bounds: VideoBounds) -> Element:
    if not layout.clusters:
        _fetch_ahead(file, layout, bounds)
    if cluster.size is None:
        # A live recording: the end of the cluster is found only by walking over its blocks.
        file.require([Range(cluster.offset, file.size_bytes - cluster.offset)])
        cluster = cluster.until(_unsized_end(file, cluster, bounds))
    cluster = cluster.until(min(cluster.end, file.size_bytes))
    layout.clusters.append(cluster)
    return cluster


def _unsized_end(file: SparseFile, cluster: Element, bounds: VideoBounds) -> int:
    end = cluster.payload
    for child in BlockReader(file, bounds.max_samples).series(cluster.payload, file.size_bytes):
        if child.id in _TOP_LEVEL:
            return child.offset
        end = min(child.end, file.size_bytes)
    return end


def _fetch_ahead(file: SparseFile, layout: _Layout, bounds: VideoBounds) -> None:
    """Ask for the headers of all clusters at once, if the cues name them. Without cues, the windows grow."""
    elements = Elements(file, bounds.max_boxes)
    try:
        sought = _sought(file, elements, layout)
        cues = next((element_at(file, each) for each in sought if each < file.size_bytes), None)
        if cues is None or cues.id != Id.CUES or cues.end > file.size_bytes or cues.whole.length > _MAX_CUES_BYTES:
            return
        file.require([cues.whole])
        named = elements.inside(cues, _CUE_POINT, _CUE_TRACK_POSITIONS, _CUE_CLUSTER)
        positions = {layout.payload + elements.unsigned(each) for each in named}
    except ScrubError:  # damaged
        return
    if len(positions) <= _MAX_CUED_CLUSTERS:
        file.require(Range(position, MAX_HEADER_BYTES) for position in positions if position < file.size_bytes)


def _sought(file: SparseFile, elements: Elements, layout: _Layout) -> Iterator[int]:
    """Yield the offsets of the cues that the SeekHeads name."""
    for head in layout.headers:
        if head.id == Id.SEEK_HEAD and head.whole.length <= _MAX_CUES_BYTES:
            file.require([head.whole])
            for seek in elements.inside(head, SEEK):
                values = {each.id: elements.unsigned(each) for each in elements.children(seek)}
                if values.get(SEEK_ID) == Id.CUES and _SEEK_POSITION in values:
                    yield layout.payload + values[_SEEK_POSITION]


def _poster_ranges(layout: _Layout, poster: PosterSamples) -> tuple[Range, ...]:
    """Return the clusters and everything before them; of long private elements there, only the header."""
    start = layout.clusters[0].offset
    before = [each for each in (*layout.headers, *layout.private) if each.offset < start]
    long = [each for each in before if each.whole.length > _WHOLE_BYTES and each in layout.private]
    holes = merged(each.body for each in long)
    return merged((*missing([Range(0, start)], holes), *poster.ranges))


def _scrub(
    file: SparseFile,
    layout: _Layout,
    tracks: Sequence[TrackEntry],
    kept: Sequence[TrackEntry],
    first_seconds: Sequence[Range],
    bounds: VideoBounds,
) -> tuple[Patch, ...]:
    edits = Edits(file.peek)
    headers = HeaderScrub(Elements(file, bounds.max_boxes), edits, kept)
    for element in layout.headers:
        headers.walk(element)
    for element in layout.private:
        void(edits, *element.whole)
    void(edits, layout.end, file.size_bytes - layout.end)
    coded = list(coded_patches(file, _coded_samples(file, layout, kept, first_seconds, bounds), first_seconds))
    reader = BlockReader(file, bounds.max_samples)
    numbers = frozenset(track.number for track in kept)
    if file.is_whole or any(track.number not in numbers for track in tracks):  # only blocks say whose they are
        file.require(each.whole for each in layout.clusters)
        for cluster in layout.clusters:
            scrub_cluster(cluster, reader, edits, numbers, touched=overlaps(cluster.whole, coded))
    else:
        for cluster in (each for each in layout.clusters if overlaps(each.whole, coded)):
            first = next(reader.series(cluster.payload, cluster.end), None)
            if first is not None and first.id == CRC_32:  # the checksum is the first element
                void(edits, *first.whole)
    return edits.joined_with(coded)


def _coded_samples(
    file: SparseFile,
    layout: _Layout,
    kept: Sequence[TrackEntry],
    first_seconds: Sequence[Range],
    bounds: VideoBounds,
) -> Iterator[CodedSample]:
    """Yield the frames of kept tracks that might have private messages: all, or those of the first seconds."""
    tracks = {track.number: track for track in kept if track.coding is not None}
    if not tracks:
        return
    end = file.size_bytes if file.is_whole else first_seconds[-1].end
    reader = BlockReader(file, bounds.max_samples)
    for cluster in layout.clusters:
        if cluster.payload >= end:
            return
        try:
            for block in reader.blocks(cluster.until(min(cluster.end, end))):
                track = tracks.get(block.track)
                if track and track.coding:
                    for frame in reader.frames(block):
                        yield frame, track.coding, track.private
        except ScrubError as damage:  # the rest of the cluster is overwritten
            if damage.code is not ScrubCode.CORRUPT:
                raise
