"""The scrub of Matroska: elements that are not needed become Void of the same length, free text becomes empty.

As for MP4, what stays is listed. Checksums in what was changed become Void too. User data (SEI) inside H.264 and
HEVC frames is out of scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from avion_media.media.container.comments import neutral_flac_blocks, neutral_vorbis_headers
from avion_media.media.container.ebml import Element, Master, void_header
from avion_media.media.container.edits import Edits
from avion_media.media.container.matroska_blocks import Block
from avion_media.media.container.matroska_tracks import CODEC_ID, DURATION, TIMESTAMP_SCALE, TRACK_ENTRY, Track
from avion_media.media.container.plan import Patch

_MUXING_APP, _WRITING_APP = 0x4D80, 0x5741  # mandatory, so they stay, empty
_SEEK, _SEEK_ID = 0x4DBB, 0x53AB
_CODEC_PRIVATE = 0x63A2
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
        _CODEC_PRIVATE,
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
            elif child.id == _CODEC_PRIVATE:
                self._codec_private(child, codec.rstrip(b"\0"))

    def _codec_private(self, child: Element, codec: bytes) -> None:
        private = self._master.content(child)
        if codec == b"A_VORBIS":
            self.edits.put(child.payload, neutral_vorbis_headers(private))
        elif codec == b"A_FLAC" and private.startswith(b"fLaC"):
            self.edits.put(child.payload + 4, neutral_flac_blocks(private[4:]))

    def _void(self, element: Element) -> None:
        for patch in void(element):
            if patch.data:
                self.edits.put(patch.offset, patch.data)
            else:
                self.edits.zero(patch.offset, patch.length)


def void_blocks(blocks: Iterable[Block], dropped: frozenset[int]) -> Iterator[Patch]:
    """Void the blocks of the dropped tracks (by number), and every checksum beside them."""
    for block in blocks:
        if block.track is None or block.track in dropped:
            yield from void(block.element)
