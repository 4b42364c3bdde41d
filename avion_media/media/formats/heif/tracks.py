"""The tracks of an image sequence (animated AVIF, HEIC bursts): which are pictures, and where their samples are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.bounds import corrupt
from avion_media.media.formats.heif.boxes import (
    Box,
    Reader,
    boxes,
    find,
    make_box,
    make_full_box,
    make_handler,
    require,
)
from avion_media.media.formats.heif.properties import is_alpha, kept_property
from avion_media.media.formats.isobmff import Region
from avion_media.media.formats.sample_table import SampleBudget, big_endian, read_sample_table

_PICTURES, _AUXILIARY = b"pict", b"auxv"
_SAMPLE_ENTRIES = frozenset((b"av01", b"hvc1", b"hev1"))
_SAMPLE_ENTRY_BYTES = 78
_COMPRESSOR_NAME = slice(42, 74)
_SELF_CONTAINED = 1
# A picture track, its transparency, and room for what else an encoder may think of; these bound memory.
_MAX_TRACKS = 8
_MAX_CHUNKS = 1 << 16
_MAX_SAMPLES = 4_000_000
_MAX_BOXES = 1000  # of a sample table

_CHILDREN: dict[bytes, frozenset[bytes]] = {
    b"trak": frozenset((b"tkhd", b"tref", b"edts", b"mdia")),
    b"edts": frozenset((b"elst",)),
    b"mdia": frozenset((b"mdhd", b"hdlr", b"minf")),
    b"minf": frozenset((b"vmhd", b"dinf", b"stbl")),
    b"stbl": frozenset((b"stsd", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"co64")),
}
# Of headers with times: the width of both times together and the whole length, by version.
_TIMED_HEADERS = {b"mvhd": ((8, 100), (16, 112)), b"tkhd": ((8, 84), (16, 96)), b"mdhd": ((8, 24), (16, 36))}
# Of tables: the width of an entry, by version.
_TABLES = {b"stts": (8,), b"ctts": (8, 8), b"stss": (4,), b"stsc": (12,), b"elst": (12, 20)}


@dataclass(frozen=True, slots=True)
class Track:
    """A picture track: its ``trak`` content, and the chunks of its samples as (offset, length)."""

    id: int
    handler: bytes
    content: memoryview
    targets: dict[bytes, tuple[int, ...]]  # of its references
    chunks: list[tuple[int, int]]
    size: tuple[int, int]  # as its header says, in pixels
    frames: int
    duration_s: float

    @property
    def properties(self) -> list[Box]:
        """Those of its first sample entry."""
        entries = _sample_entries(_sample_table(self.content))
        return _entry_boxes(entries[0]) if entries else []


def read_tracks(moov: memoryview) -> list[Track]:
    """The tracks of pictures and of their transparency; thumbnails, sound, video, text and data are left out."""
    if find(moov, b"mvex") is not None:
        raise Rejected(Reason.UNSUPPORTED_TYPE, "a fragmented image sequence")
    found = [box.payload for box in boxes(moov) if box.kind == b"trak" and _handler(box.payload)]
    if len(found) > _MAX_TRACKS:
        raise corrupt("too many picture tracks")
    known = [_read_track(content) for content in found]
    pictures = [track for track in known if track.handler == _PICTURES and b"thmb" not in track.targets]
    ids = {track.id for track in pictures}
    alphas = [track for track in known if track.handler == _AUXILIARY and ids.intersection(_master_ids(track))]
    kept = [track for track in known if track in pictures or track in alphas]
    if len({track.id for track in kept}) != len(kept):
        raise corrupt("two tracks of one number")
    return kept


def write_moov(moov: memoryview, tracks: list[Track], place: Callable[[int], int]) -> bytes:
    """The ``moov`` box of these tracks. ``place`` gives a chunk's new offset in the file."""
    ids = {track.id for track in tracks}
    header = make_box(b"mvhd", _without_times(Box(b"mvhd", require(moov, b"mvhd"))))
    return make_box(b"moov", header, *(_Rewriter(track, ids, place).write() for track in tracks))


def _handler(trak: memoryview) -> bytes:
    """The handler of a track, empty when we know no use for it."""
    handler = bytes(require(require(trak, b"mdia"), b"hdlr")[8:12])
    return handler if handler in (_PICTURES, _AUXILIARY) else b""


def _master_ids(track: Track) -> tuple[int, ...]:
    """The tracks whose transparency this one is."""
    entries = _sample_entries(_sample_table(track.content))
    alpha = bool(entries) and all(any(is_alpha(box) for box in _entry_boxes(entry)) for entry in entries)
    return track.targets.get(b"auxl", ()) if alpha else ()


def _sample_table(trak: memoryview) -> memoryview:
    return require(require(require(trak, b"mdia"), b"minf"), b"stbl")


def _read_track(trak: memoryview) -> Track:
    tkhd = require(trak, b"tkhd")
    header = Reader(tkhd)
    version = header.number(4) >> 24
    header.take(16 if version else 8)
    sides = tkhd[88:96] if version else tkhd[76:84]  # numbers of 16 bits and as many behind the point
    references = find(trak, b"tref")
    stbl = _sample_table(trak)
    sizes = Reader(require(stbl, b"stsz"))
    sizes.take(8)
    return Track(
        id=header.number(4),
        handler=_handler(trak),
        content=trak,
        targets={box.kind: _ids(box.payload) for box in boxes(references)} if references is not None else {},
        chunks=_chunks(stbl),
        size=(int.from_bytes(sides[:2], "big"), int.from_bytes(sides[4:6], "big")),
        frames=sizes.number(4),
        duration_s=_duration_s(Reader(require(require(trak, b"mdia"), b"mdhd"))),
    )


def _duration_s(header: Reader) -> float:
    """Of the track's media; 0.0 when the header does not say."""
    width = 8 if header.number(4) >> 24 else 4
    header.take(2 * width)
    timescale, duration = header.number(4), header.number(width)
    return duration / timescale if timescale and duration != (1 << 8 * width) - 1 else 0.0


def _ids(payload: memoryview) -> tuple[int, ...]:
    return tuple(big_endian(payload[: len(payload) // 4 * 4].tobytes(), "I"))


# --- where the samples are ---------------------------------------------------------------------------------------


def _chunks(stbl: memoryview) -> list[tuple[int, int]]:
    """Every chunk as (offset, length). CORRUPT when some samples are in no chunk, or a chunk has none."""
    region = Region(bytes(stbl), 0, _MAX_BOXES)
    table = read_sample_table(region, region.children(0, len(stbl)), SampleBudget(_MAX_SAMPLES))
    lengths = list(table.chunk_lengths())
    sizes = table.constant_size * table.count or sum(table.sizes)
    if not len(lengths) == len(table.chunks) <= _MAX_CHUNKS or sum(lengths) != sizes:
        raise corrupt("chunks and samples do not agree")
    return list(zip(table.chunks, lengths, strict=True))


# --- writing ------------------------------------------------------------------------------------------------------


class _Rewriter:
    """Copies one track box by box, each as the list allows."""

    def __init__(self, track: Track, kept_ids: set[int], place: Callable[[int], int]) -> None:
        self._track = track
        self._kept_ids = kept_ids
        self._place = place

    def write(self) -> bytes:
        return self._box(Box(b"trak", self._track.content))

    def _box(self, box: Box) -> bytes:
        if box.kind in _CHILDREN:
            allowed = _CHILDREN[box.kind]
            return make_box(box.kind, *(self._box(child) for child in _first_of_each(box.payload, allowed)))
        if box.kind in _TIMED_HEADERS:
            return make_box(box.kind, _without_times(box))
        if box.kind in _TABLES:
            return make_box(box.kind, _exact_table(box))
        match box.kind:
            case b"hdlr":
                return make_handler(self._track.handler)
            case b"tref":
                return self._references()
            case b"dinf":
                return _data_in_this_file(box.payload)
            case b"stsd":
                return _descriptions(box.payload)
            case b"stsz":
                return make_box(box.kind, _exact_sizes(box.payload))
            case b"stco" | b"co64":
                return self._chunk_offsets()
            case _:
                # vmhd
                return make_box(box.kind, box.payload[:12])

    def _references(self) -> bytes:
        kept = []
        for kind in (b"auxl", b"prem"):
            targets = [target for target in self._track.targets.get(kind, ()) if target in self._kept_ids]
            if targets:
                kept.append(make_box(kind, *(target.to_bytes(4, "big") for target in targets)))
        return make_box(b"tref", *kept) if kept else b""

    def _chunk_offsets(self) -> bytes:
        offsets = [self._place(offset) if length else 0 for offset, length in self._track.chunks]
        content = (offset.to_bytes(4, "big") for offset in offsets)
        return make_full_box(b"stco", 0, 0, len(offsets).to_bytes(4, "big"), *content)


def _first_of_each(view: memoryview, kinds: frozenset[bytes]) -> list[Box]:
    """One box of each of the kinds, as readers take them; copies of a table would multiply the output."""
    first: dict[bytes, Box] = {}
    for box in boxes(view):
        if box.kind in kinds:
            first.setdefault(box.kind, box)
    return list(first.values())


def _without_times(box: Box) -> bytes:
    version = box.payload[0] if box.payload else 0
    if version > 1:
        raise corrupt("a header of an unknown version")
    times, length = _TIMED_HEADERS[box.kind][version]
    if len(box.payload) < length:
        raise corrupt("a header is too short")
    return bytes(box.payload[:4]) + bytes(times) + bytes(box.payload[4 + times : length])


def _exact_table(box: Box) -> memoryview:
    reader = Reader(box.payload)
    version = reader.number(4) >> 24
    widths = _TABLES[box.kind]
    if version >= len(widths):
        raise corrupt("a table of an unknown version")
    reader.take(reader.number(4) * widths[version])
    return box.payload[: reader.offset]


def _exact_sizes(payload: memoryview) -> memoryview:
    reader = Reader(payload)
    reader.take(4)
    size, count = reader.number(4), reader.number(4)
    reader.take(0 if size else 4 * count)
    return payload[: reader.offset]


def _data_in_this_file(dinf: memoryview) -> bytes:
    reader = Reader(require(dinf, b"dref"))
    reader.take(8)
    for box in boxes(reader.rest()):
        if not Reader(box.payload).number(4) & _SELF_CONTAINED:
            raise Rejected(Reason.EXTERNAL_REFERENCE, "a track's data is in another file")
    location = make_full_box(b"url ", 0, _SELF_CONTAINED)
    return make_box(b"dinf", make_full_box(b"dref", 0, 0, (1).to_bytes(4, "big"), location))


def _sample_entries(stbl: memoryview) -> list[Box]:
    reader = Reader(require(stbl, b"stsd"))
    reader.take(8)
    return list(boxes(reader.rest()))


def _entry_boxes(entry: Box) -> list[Box]:
    reader = Reader(entry.payload)
    reader.take(_SAMPLE_ENTRY_BYTES)
    return list(boxes(reader.rest()))


def _descriptions(payload: memoryview) -> bytes:
    reader = Reader(payload)
    reader.take(8)
    written = [_description(entry) for entry in boxes(reader.rest())]
    return make_full_box(b"stsd", 0, 0, len(written).to_bytes(4, "big"), *written)


def _description(entry: Box) -> bytes:
    if entry.kind not in _SAMPLE_ENTRIES:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"samples of type {entry.kind!r}")
    head = bytearray(Reader(entry.payload).take(_SAMPLE_ENTRY_BYTES))
    head[_COMPRESSOR_NAME] = bytes(_COMPRESSOR_NAME.stop - _COMPRESSOR_NAME.start)
    # The data references are one by now.
    head[6:8] = (1).to_bytes(2, "big")
    return make_box(entry.kind, bytes(head), *(kept_property(box) for box in _entry_boxes(entry)))
