"""The scrub of Matroska: elements that are not needed become Void of the same length, free text becomes empty.

As for MP4, the elements to keep are listed. Inside clusters the list is applied only if each of their blocks is read,
which means that the whole file is present, or that blocks of a track must be removed. Checksums of changed elements
become Void too. For private messages inside frames see `movie.coded_patches`.
"""

from __future__ import annotations

from collections.abc import Iterable

from mediascrub.codec_private import neutral_flac_blocks, neutral_vorbis_headers
from mediascrub.coded_data import CODINGS
from mediascrub.coded_data.changes import is_needed_t35
from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.matroska.clusters import BLOCKS, BlockReader, InCluster, InGroup
from mediascrub.matroska.ebml import CRC_32, Element, Elements, Id, void_header
from mediascrub.matroska.tracks import DURATION, TIMESTAMP_SCALE, TRACK_ENTRY, InTrack, InVideo, TrackEntry
from mediascrub.movie import Edits

SEEK, SEEK_ID = 0x4DBB, 0x53AB
_SOUGHT = frozenset((Id.SEEK_HEAD, Id.INFO, Id.TRACKS, Id.CLUSTER, Id.CUES))  # what a SeekHead may lead to
_PROGRAMS = frozenset((0x4D80, 0x5741))  # MuxingApp and WritingApp: mandatory, so they stay, empty
_COLOUR, _MASTERING, _PROJECTION = 0x55B0, 0x55D0, 0x7670
# Of Video: fields, stereo, alpha, the kind of aspect ratio, uncompressed formats, gamma and rate.
_SHOWN = frozenset((0x9A, 0x9D, 0x53B8, 0x53B9, 0x53C0, 0x54B3, 0x2EB524, 0x2FB523, 0x2383E3))
# The children to keep in each kind of parent. Those that are parents in this table are walked.
_STAYS: dict[int, frozenset[int]] = {
    Id.EBML: frozenset((0x4286, 0x42F7, 0x42F2, 0x42F3, 0x4282, 0x4287, 0x4285)),  # versions, limits, DocType
    Id.SEEK_HEAD: frozenset((SEEK,)),
    Id.INFO: frozenset((TIMESTAMP_SCALE, DURATION, *_PROGRAMS)),
    Id.TRACKS: frozenset((TRACK_ENTRY,)),
    TRACK_ENTRY: frozenset(InTrack),
    InTrack.VIDEO: frozenset((*InVideo, *_SHOWN, _COLOUR, _PROJECTION)),
    InTrack.AUDIO: frozenset((0xB5, 0x78B5, 0x9F, 0x7D7B, 0x6264, 0x52F1)),  # rates, channels, depth, emphasis
    InTrack.BLOCK_ADDITION_MAPPING: frozenset((0x41F0, 0x41E7, 0x41ED)),  # number, type and data, but no name
    _COLOUR: frozenset((*range(0x55B1, 0x55BE), _MASTERING)),
    _MASTERING: frozenset(range(0x55D1, 0x55DB)),
    _PROJECTION: frozenset(range(0x7671, 0x7676)),
}
_STAYS_IN_CLUSTER, _STAYS_IN_GROUP = frozenset(InCluster), frozenset(InGroup)
_BLOCK_MORE, _BLOCK_ADDITIONAL, _BLOCK_ADD_ID = 0xA6, 0xA5, 0xEE
_ALPHA, _T35 = 1, 4  # the values of BlockAddID that can stay; 1 is the default

_SMALL_VOID_BYTES = 64


def void(edits: Edits, offset: int, length: int) -> None:
    """Turn bytes into a zeroed Void. A single byte, which is too short for that, is zeroed."""
    header = void_header(length) if length >= 2 else b""
    if header and length <= _SMALL_VOID_BYTES:  # one patch instead of two, because there can be thousands
        header = header.ljust(length, b"\0")
    edits.put(offset, header)
    edits.zero(offset + len(header), length - len(header))


class HeaderScrub:
    """Scrubs everything except clusters. ``kept`` are the tracks that stay. Raises `ScrubError` (corrupt)."""

    def __init__(self, elements: Elements, edits: Edits, kept: Iterable[TrackEntry]) -> None:
        self._elements = elements
        self._edits = edits
        self._kept = {track.entry.offset: track for track in kept}

    def walk(self, parent: Element) -> None:
        """Scrub the children of ``parent``, whose id is in the table above."""
        for child in self._elements.children(parent):
            if child.id not in _STAYS[parent.id] or not self._belongs(child):
                void(self._edits, *child.whole)
            elif child.id in _STAYS:
                self.walk(child)
            elif child.id in _PROGRAMS:
                self._edits.zero(*child.body)
            elif child.id == InTrack.CODEC_PRIVATE:
                track = self._kept[parent.offset]
                self._codec_private(child.payload, self._elements.content(child), track.codec or "")

    def _belongs(self, child: Element) -> bool:
        if child.id == SEEK:
            found = map(self._elements.unsigned, self._elements.inside(child, SEEK_ID))
            return next(found, 0) in _SOUGHT
        return child.id != TRACK_ENTRY or child.offset in self._kept

    def _codec_private(self, offset: int, private: bytes, codec: str) -> None:
        if codec == "A_VORBIS":
            self._edits.put(offset, neutral_vorbis_headers(private))
        elif codec == "A_FLAC" and private.startswith(b"fLaC"):
            self._edits.put(offset + 4, neutral_flac_blocks(private[4:]))
        elif coding := CODINGS.get(codec):
            for position, new in coding.changes_of_private(private):
                self._edits.put(offset + position, new)


def scrub_cluster(cluster: Element, reader: BlockReader, edits: Edits, kept: frozenset[int], *, touched: bool) -> None:
    """Turn all blocks but those of ``kept`` tracks (by number), and elements that are not on the list, into Void.

    So does the rest of a cluster that cannot be read, and a last block that is cut off: players show neither. Checksums
    become Void too if this or another scrub (``touched``) changes anything in the cluster. Raises `Missing`, and
    `ScrubError` (too_complex).
    """
    before = sound = len(edits.patches)
    checksums: list[Element] = []
    reached, end = cluster.payload, cluster.end
    try:
        for child in reader.series(reached, end):
            if child.end > end:
                break
            if child.id == CRC_32:
                checksums.append(child)
            else:
                _scrub_child(child, reader, edits, kept)
            reached, sound = child.end, len(edits.patches)
    except ScrubError as damage:
        if damage.code is not ScrubCode.CORRUPT:
            raise
        del edits.patches[sound:]
    void(edits, reached, end - reached)
    if touched or len(edits.patches) > before:
        for checksum in checksums:
            void(edits, *checksum.whole)


def _scrub_child(child: Element, reader: BlockReader, edits: Edits, kept: frozenset[int]) -> None:
    if child.id not in _STAYS_IN_CLUSTER or (child.id in BLOCKS and reader.block(child).track not in kept):
        void(edits, *child.whole)
    elif child.id == InCluster.BLOCK_GROUP:
        stays = set(_STAYS_IN_GROUP)
        for inner in reader.series(child.payload, child.end):
            inside = inner.until(min(inner.end, child.end))
            if inner.id not in stays:
                void(edits, *inside.whole)
            elif inner.id == InGroup.BLOCK:
                stays.remove(InGroup.BLOCK)  # only the first one is read
            elif inner.id == InGroup.BLOCK_ADDITIONS:
                _scrub_additions(inside, reader, edits)


def _scrub_additions(additions: Element, reader: BlockReader, edits: Edits) -> None:
    every = list(reader.children(additions))
    private = [each for each in every if each.id != _BLOCK_MORE or not _is_needed(each, reader)]
    for element in private if len(private) < len(every) else (additions,):
        void(edits, *element.whole)


def _is_needed(addition: Element, reader: BlockReader) -> bool:
    """Return whether a BlockMore is alpha, or a message that is needed, with nothing beside it."""
    children = sorted(reader.children(addition), key=lambda child: child.id)
    if [child.id for child in children] not in ([_BLOCK_ADDITIONAL], [_BLOCK_ADDITIONAL, _BLOCK_ADD_ID]):
        return False
    value = reader.unsigned(children[1]) if len(children) > 1 else _ALPHA
    return value == _ALPHA or (value == _T35 and is_needed_t35(reader.content(children[0], 16)))
