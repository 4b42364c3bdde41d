"""The scrub of ``moov``, ``moof`` and ``mfra``: boxes that are not known to be needed become zeroed ``free`` boxes.

The boxes to keep are listed, not those to remove, because makers keep inventing new ones. Free text and dates
inside boxes that stay are zeroed. Private messages in codec configurations become filler; for those in samples see
`movie.coded_patches`.

In ``mdat``, cameras leave positions in the samples of timed metadata tracks, and in blocks between the samples that no
table names. All bytes that belong to no kept sample are zeroed.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence

from mediascrub.codec_private import neutral_spherical
from mediascrub.errors import corrupt
from mediascrub.formats import Format
from mediascrub.isobmff import PADDING, Box, codes, first
from mediascrub.movie import Edits
from mediascrub.mp4.contents import STAYS, content_bytes, kept_content, sidx_bytes
from mediascrub.mp4.cut import HEADER_BYTES, put_free, write_tables
from mediascrub.mp4.moov import VISUAL_ENTRY_BYTES, VISUAL_HANDLERS, Movie, Track, sound_entry_bytes
from mediascrub.ranges import Range, enclosing, merged, missing
from mediascrub.sniffing import BRANDS_OF_3GP, MP4_BRANDS

_REPEATED = codes("trak trex traf trun tfra sgpd sbgp colr")  # of others the first one counts
_LANGUAGE = re.compile(rb"\0{4}[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}\0")  # of ``elng``, as in BCP 47
_RESERVED_IN_MVHD = 24  # bytes before the last number: in QuickTime, times of a preview, a poster and a selection
_BRANDS = MP4_BRANDS | codes("M4A M4B qt hvc1 hev1 dby1 cmff cmfs msdh msix lmsg sims")
_COMPRESSOR_NAME = 42, 32  # offset and length in a visual sample entry
_MEANT_COMPRESSOR = b"Sorenson H263"  # a decoder uses this name
# Writers align chunks, which leaves thousands of gaps. A position takes more than this in every known format.
_ALIGNMENT_BYTES = 15


def free(edits: Edits, box: Box) -> None:
    """Turn a box into a zeroed ``free`` box. A box of padding keeps its type."""
    if box.type not in PADDING:
        edits.put(box.offset + 4, b"free")
    edits.zero(box.payload, box.end - box.payload)


def clean_top(edits: Edits, box: Box, fmt: Format) -> None:
    """Clean an index of segments, or a box of brands: of cameras and editors it has names that no player knows."""
    if box.type == b"sidx":
        length = content_bytes(box, sidx_bytes)
        edits.zero(box.payload + length, len(box.content) - length)
        return
    usual = {Format.MOV: b"qt  ", Format.M4A: b"M4A "}.get(fmt, b"isom")
    for start in range(0, len(box.content) // 4 * 4, 4):
        brand = bytes(box.content[start : start + 4])
        if start != 4 and brand not in _BRANDS and not brand.startswith(BRANDS_OF_3GP):  # at 4: a version
            edits.put(box.payload + start, usual)
    edits.zero(box.end - len(box.content) % 4, len(box.content) % 4)


def _with_repetitions(boxes: Iterable[Box]) -> Iterator[tuple[Box, bool]]:
    """Yield each box, and whether one of its type came before, of which only the first one counts."""
    seen: set[bytes] = set()
    for box in boxes:
        yield box, box.type in seen and box.type not in _REPEATED
        seen.add(box.type)


class MovieScrub:
    """Scrubs one of these boxes, loaded completely. ``kept`` are the tracks that stay. CORRUPT if damaged."""

    def __init__(self, kept: Sequence[Track], edits: Edits) -> None:
        self._kept = {track.box.offset: track for track in kept}
        self._kept_ids = {track.track_id for track in kept}
        self._edits = edits

    def walk(self, parent: Box) -> None:
        """Scrub the children of ``parent``, whose type is in the table of `contents`. It limits the recursion."""
        stays = STAYS[parent.type]
        boxes = parent.children()
        for box, repeated in _with_repetitions(boxes):
            if parent.type == b"stbl" and self._track_of(box).cut and box.type != b"stsd":
                continue  # written anew
            if parent.type == b"trak" and box.type == b"uuid":
                self._replace(box, neutral_spherical(bytes(box.content)))
            elif box.type not in stays or repeated or not self._belongs(box):
                free(self._edits, box)
            elif box.type in STAYS:
                self.walk(box)
            elif length := content_bytes(box, stays[box.type]):
                self._clean(box)
                self._zero(box, length)
            else:
                free(self._edits, box)
        if parent.type == b"stbl" and (track := self._track_of(parent)).cut:
            write_tables(track, self._edits)
        self._zero_leftover(boxes, parent)

    def _track_of(self, box: Box) -> Track:
        return next(each for each in self._kept.values() if each.box.offset < box.offset < each.box.end)

    def _belongs(self, box: Box) -> bool:
        if box.type == b"trak":
            return box.offset in self._kept
        if box.type == b"traf":
            header = first(box.children(), b"tfhd")
            return header is not None and header.integers("I", 4)[0] in self._kept_ids
        return True

    def _zero(self, box: Box, skip: int) -> None:
        """Overwrite the content after its first ``skip`` bytes with zeros."""
        self._edits.zero(box.payload + skip, box.end - box.payload - skip)

    def _zero_leftover(self, boxes: list[Box], parent: Box, skip: int = 0) -> None:
        rest = boxes[-1].end if boxes else parent.payload + skip
        self._edits.zero(rest, parent.end - rest)

    def _clean(self, box: Box) -> None:
        match box.type:
            case b"mvhd" | b"tkhd" | b"mdhd":  # dates
                self._edits.zero(box.payload + 4, 16 if box.integers("B") == (1,) else 8)
                if box.type == b"mvhd":
                    last = 108 if box.integers("B") == (1,) else 96
                    self._edits.zero(box.payload + last - _RESERVED_IN_MVHD, _RESERVED_IN_MVHD)
            case b"hdlr":
                # After version, component type and subtype: manufacturer, flags, mask and the free name.
                self._zero(box, 12)
            case b"elst" if self._track_of(box).cut:
                version = box.integers("B")[0] == 1
                for index, (_, time, _) in enumerate(self._track_of(box).edits):
                    at, width = (8 + 20 * index + 8, 8) if version else (8 + 12 * index + 4, 4)
                    self._edits.put(box.payload + at, time.to_bytes(width, "big", signed=True))
            case b"elng":
                found = _LANGUAGE.match(box.content)
                self._replace(box, found[0] if found else b"")
            case b"dref":  # all are self-contained, but an alias can still contain the path on its author's disk
                for entry in (entries := box.children(8)):
                    self._zero(entry, 4)
                self._zero_leftover(entries, box, 8)
            case b"tref":
                for reference in (references := box.children()):
                    if not self._kept_ids.issuperset(reference.integers(f"{len(reference.content) // 4}I")):
                        free(self._edits, reference)
                self._zero_leftover(references, box)
            case b"stsd":
                self._clean_sample_descriptions(box)

    def _clean_sample_descriptions(self, stsd: Box) -> None:
        track = self._track_of(stsd)
        entries = stsd.children(8)
        for entry in entries:
            if track.handler in VISUAL_HANDLERS:
                name = entry.at(*_COMPRESSOR_NAME)
                meant = len(_MEANT_COMPRESSOR) + 1 if bytes(name[1:]).startswith(_MEANT_COMPRESSOR) else 0
                self._edits.zero(entry.payload + _COMPRESSOR_NAME[0] + meant, len(name) - meant)
                self._clean_entry(entry, VISUAL_ENTRY_BYTES, vendor_bytes=12)  # with settings of quality
            elif track.handler == b"soun":
                self._clean_entry(entry, sound_entry_bytes(entry, track.stsd_version), vendor_bytes=4)
            elif entry.type == b"stpp":  # the name of its language, then where that is described
                self._zero(entry, 8 + len(bytes(entry.content[8:]).partition(b"\0")[0]))
            else:
                self._clean_entry(entry, 8)
        self._zero_leftover(entries, stsd, 8)

    def _clean_entry(self, entry: Box, fixed: int, vendor_bytes: int = 0) -> None:
        entry.at(0, fixed)
        self._edits.zero(entry.payload + 12, vendor_bytes)
        boxes = entry.children(fixed)
        for box, repeated in _with_repetitions(boxes):
            self._replace(box, b"" if repeated else kept_content(box))
        self._zero_leftover(boxes, entry, fixed)

    def _replace(self, box: Box, kept: bytes) -> None:
        """Let ``kept`` be the content, and the rest a ``free`` box if it has room; of nothing the whole box."""
        rest = box.end - box.payload - len(kept)
        if not kept:
            free(self._edits, box)
            return
        self._edits.put(box.payload, kept)
        if rest >= HEADER_BYTES == box.header:
            self._edits.put(box.offset, (box.size - rest).to_bytes(4, "big"))
            put_free(self._edits, box.end - rest, box.end)
        else:
            self._edits.zero(box.end - rest, rest)


def kept_extents(movie: Movie, media: Sequence[Range]) -> Iterator[Range]:
    """Yield the ranges of the chunks of kept tracks, as their tables say."""
    starts = sorted({offset for track in movie.tracks for offset in track.table.chunks})
    for track in movie.kept:
        # QuickTime counts sound of a constant size in frames, whose size can be wrong.
        counts_frames = track.table.constant_size and [delta for _, delta in track.table.durations[:1]] == [1]
        if track.sound and counts_frames:
            yield from _sound_chunks(track, starts, media)
        else:
            yield from track.table.chunk_ranges()


def _sound_chunks(track: Track, starts: Sequence[int], media: Sequence[Range]) -> Iterator[Range]:
    """Yield each chunk with the length that the sample entry implies, because a decoder reads that."""
    constant_size = track.table.constant_size
    for chunk in track.table.chunk_ranges():
        frames = chunk.length // constant_size
        # Uncompressed sound is at least as long as the table says, in case the table is right.
        lengths = (
            each.bytes_of(frames) if each.frames > 1 else max(each.bytes_of(frames), chunk.length)
            for each in track.sound
        )
        end = chunk.offset + max(lengths)
        if end > chunk.end:
            box = enclosing(media, chunk.offset)
            following = bisect.bisect_right(starts, chunk.offset)
            ends = [*starts[following : following + 1], *([box.end] if box else [])]
            end = max(chunk.end, min(end, min(ends, default=chunk.offset)))
        yield Range(chunk.offset, end - chunk.offset)


def unreferenced(media: Sequence[Range], kept: Iterable[Range], size_bytes: int, *, dropped: bool) -> tuple[Range, ...]:
    """Return the parts of ``media`` (contents of ``mdat`` boxes, sorted) outside ``kept``.

    A kept range counts up to the end of its box: what a table says too much does not keep the contents of the next.
    Gaps that only align chunks are left out, unless there are private samples (``dropped``), which can be as short.

    Raises `ScrubError` (corrupt) if a kept range begins outside ``media``: the scrub of other boxes would destroy it.
    """
    extents: list[Range] = []
    for each in merged(kept):
        box = enclosing(media, each.offset)
        if box:
            extents.append(Range(each.offset, min(each.end, box.end) - each.offset))
        elif each.offset < size_bytes:
            raise corrupt(f"samples at {each.offset} lie outside the media data")
    longest_left = 0 if dropped else _ALIGNMENT_BYTES
    return tuple(gap for gap in missing(media, extents) if gap.length > longest_left)
