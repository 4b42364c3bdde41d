"""The scrub of Matroska: elements that are not needed become Void of the same length, free text becomes empty.

As for MP4, what stays is listed. Inside clusters that is so only where each of their blocks is read: when the whole
file is here, or blocks of a track have to go. Checksums in what was changed become Void too. For private messages
inside frames see `formats.coded_samples`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.ranges import Patch
from avion_media.media.coded_data import changes_of_private, coding_of
from avion_media.media.formats.codec_private import neutral_flac_blocks, neutral_vorbis_headers
from avion_media.media.formats.matroska.clusters import BLOCK_GROUP, BLOCKS, BlockReader, Cluster
from avion_media.media.formats.matroska.ebml import CRC_32, Element, Master, void_header
from avion_media.media.formats.matroska.tracks import (
    CODEC_ID,
    CODEC_PRIVATE,
    DURATION,
    TIMESTAMP_SCALE,
    TRACK_ENTRY,
    Track,
)
from avion_media.media.formats.movie import Edits

_MUXING_APP, _WRITING_APP = 0x4D80, 0x5741  # mandatory, so they stay, empty
_SEEK, _SEEK_ID = 0x4DBB, 0x53AB
_STAYS_IN_EBML = frozenset((0x4286, 0x42F7, 0x42F2, 0x42F3, 0x4282, 0x4287, 0x4285))  # versions, limits, DocType
_STAYS_IN_INFO = frozenset((TIMESTAMP_SCALE, DURATION))
_STAYS_IN_TRACK = frozenset(
    (
        0xD7,  # TrackNumber
        0x73C5,  # TrackUID: mandatory, a random number
        0x83,  # TrackType
        0xB9,  # FlagEnabled
        0x88,  # FlagDefault
        0x55AA,  # FlagForced
        *range(0x55AB, 0x55B0),  # FlagHearingImpaired … FlagCommentary
        0x9C,  # FlagLacing
        0x6DE7,  # MinCache
        0x6DF8,  # MaxCache
        0x23E383,  # DefaultDuration
        0x234E7A,  # DefaultDecodedFieldDuration
        0x23314F,  # TrackTimestampScale
        0x537F,  # TrackOffset
        0x55EE,  # MaxBlockAdditionID
        0x41E4,  # BlockAdditionMapping: Dolby Vision's configuration
        0x22B59C,  # Language
        0x22B59D,  # LanguageBCP47
        0x86,  # CodecID
        CODEC_PRIVATE,
        0x56AA,  # CodecDelay
        0x56BB,  # SeekPreRoll
        0xAA,  # CodecDecodeAll
        0x6FAB,  # TrackOverlay
        0xE0,  # Video
        0xE1,  # Audio
        0xE2,  # TrackOperation
        0x6D80,  # ContentEncodings
    )
)
_STAYS_IN_CLUSTER = frozenset((*BLOCKS, 0xE7, 0xA7, 0xAB))  # Timestamp, Position, PrevSize
_STAYS_IN_GROUP = frozenset(
    (
        0xA1,  # Block
        0x9B,  # BlockDuration
        0xFB,  # ReferenceBlock
        0xFA,  # ReferencePriority
        0xA4,  # CodecState
        0x75A1,  # BlockAdditions: the alpha channel of WebM, HDR10+
        0x75A2,  # DiscardPadding
    )
)

_SMALL_VOID_BYTES = 64


def void(element: Element) -> Iterator[Patch]:
    """Turn an element (of at least 2 bytes, as all are) into a zeroed Void."""
    return void_span(element.offset, element.end - element.offset)


def void_span(offset: int, length: int) -> Iterator[Patch]:
    """Turn ``length`` bytes into a zeroed Void; a single byte, too short for one, is zeroed."""
    header = void_header(length) if length >= 2 else b""
    if header and length <= _SMALL_VOID_BYTES:  # one patch instead of two: there may be thousands
        yield Patch(offset, length, header.ljust(length, b"\0"))
        return
    if header:
        yield Patch(offset, len(header), header)
    if length > len(header):
        yield Patch(offset + len(header), length - len(header))


class MasterScrub:
    """Collects in ``edits`` the changes inside one loaded EBML header, SeekHead, Info or Tracks.

    Raises `Rejected` (corrupt).
    """

    def __init__(self, master: Master) -> None:
        self.edits = Edits(master.data, master.element.offset)
        self._master = master

    def ebml(self) -> None:
        """Keep what the standard puts into the file's header."""
        for child in self._master.children():
            if child.id not in _STAYS_IN_EBML:
                self._void(child)

    def seek_head(self, stays: frozenset[int]) -> None:
        """Void the entries that lead to anything but ``stays`` (element ids)."""
        for child in self._master.children():
            if child.id != _SEEK or self._target(child) not in stays:
                self._void(child)

    def _target(self, seek: Element) -> int:
        return next((self._master.unsigned(each) for each in self._master.children(seek) if each.id == _SEEK_ID), 0)

    def info(self) -> None:
        """Keep the timing; empty the names of the programs; void all else."""
        for child in self._master.children():
            if child.id in (_MUXING_APP, _WRITING_APP):
                self.edits.zero(child.payload, child.size or 0)
            elif child.id not in _STAYS_IN_INFO:
                self._void(child)

    def tracks(self, kept: Iterable[Track]) -> None:
        """Void the other tracks, and in those that stay what is not needed to play them."""
        kept_offsets = {track.entry.offset for track in kept}
        for child in self._master.children():
            if child.id == TRACK_ENTRY and child.offset in kept_offsets:
                self._track(child)
            else:
                self._void(child)

    def _track(self, entry: Element) -> None:
        codec = b""
        for child in self._master.children(entry):
            if child.id == CODEC_ID:
                codec = self._master.content(child)
        for child in self._master.children(entry):
            if child.id not in _STAYS_IN_TRACK:
                self._void(child)
            elif child.id == CODEC_PRIVATE:
                self._codec_private(child, codec.rstrip(b"\0"))

    def _codec_private(self, child: Element, codec: bytes) -> None:
        private = self._master.content(child)
        if codec == b"A_VORBIS":
            self.edits.put(child.payload, neutral_vorbis_headers(private))
        elif codec == b"A_FLAC" and private.startswith(b"fLaC"):
            self.edits.put(child.payload + 4, neutral_flac_blocks(private[4:]))
        elif coding := coding_of(codec.decode("latin-1")):
            for offset, new in changes_of_private(coding, private):
                self.edits.put(child.payload + offset, new)

    def _void(self, element: Element) -> None:
        for patch in void(element):
            if patch.data:
                self.edits.put(patch.offset, patch.data)
            else:
                self.edits.zero(patch.offset, patch.length)


class ClusterScrub:
    """What changes inside a cluster: blocks of ``dropped`` tracks (by number) become Void, and what is not on the list.

    So does the rest of a cluster from where it cannot be read: players go on at the next one. A last block that is cut
    off stays, unless it may be of a dropped track. Raises `Missing`, and `Rejected` (decoder_limit).
    """

    def __init__(self, reader: BlockReader, cluster: Cluster, dropped: frozenset[int]) -> None:
        self._reader = reader
        self._cluster = cluster
        self._dropped = dropped
        self._checksums: list[Element] = []

    def patches(self) -> Iterator[Patch]:
        """All changes but `checksums`."""
        end = self._cluster.end
        reached = self._cluster.element.payload
        try:
            for child in self._reader.children(reached, end):
                if child.end > end:
                    if child.id in BLOCKS and not self._dropped:
                        return
                    break
                yield from self._child(child)
                reached = child.end
        except Rejected as damage:
            if damage.reason is not Reason.CORRUPT:
                raise
        yield from void_span(reached, end - reached)

    def checksums(self) -> Iterator[Patch]:
        """The changes to the checksums found by `patches`, which are wrong once anything else has changed."""
        for checksum in self._checksums:
            yield from void(checksum)

    def _child(self, child: Element) -> Iterator[Patch]:
        if child.id == CRC_32:
            self._checksums.append(child)
        elif child.id not in _STAYS_IN_CLUSTER or (
            self._dropped and child.id in BLOCKS and self._reader.head(child)[0] in self._dropped
        ):
            yield from void(child)
        elif child.id == BLOCK_GROUP:
            for inner in self._reader.children(child.payload, child.end):
                if inner.id not in _STAYS_IN_GROUP:
                    yield from void_span(inner.offset, min(inner.end, child.end) - inner.offset)
