"""The scrub of ``moov``, ``moof`` and ``mfra``: boxes that are not known to be needed become zeroed ``free`` boxes.

The boxes to keep are listed, not those to remove, because makers keep inventing new ones. Free text and dates
inside boxes that stay are zeroed. Private messages in codec configurations become filler; for those in samples see
`movie.coded_patches`.

In ``mdat``, cameras leave positions in the samples of timed metadata tracks, and in blocks between the samples that no
table names. All bytes that belong to no kept sample are zeroed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

from mediascrub.codec_private import neutral_flac_blocks, neutral_spherical
from mediascrub.errors import corrupt
from mediascrub.icc import neutral_colr
from mediascrub.isobmff import PADDING, Box, codes, first
from mediascrub.movie import Edits
from mediascrub.mp4.moov import CODEC_PRIVATE, VISUAL_ENTRY_BYTES, VISUAL_HANDLERS, Movie, Track
from mediascrub.ranges import Range, enclosing, merged, missing

# The children to keep in each kind of parent. Those that are parents in this table are walked; others stay unchanged.
_STAYS: dict[bytes, frozenset[bytes]] = {
    b"moov": codes("mvhd trak mvex"),
    b"trak": codes("tkhd tapt edts tref mdia trgr load"),
    b"tapt": codes("clef prof enof"),
    b"edts": codes("elst"),
    b"mdia": codes("mdhd hdlr minf elng"),
    b"minf": codes("vmhd smhd gmhd sthd nmhd hdlr dinf stbl"),
    b"gmhd": codes("gmin"),
    b"dinf": codes("dref"),
    b"stbl": codes("stsd stts ctts cslg stss stps stsh stsc stsz stz2 stco co64 sdtp stdp padb sgpd sbgp subs"),
    b"mvex": codes("mehd trex leva trep"),
    b"moof": codes("mfhd traf"),
    b"traf": codes("tfhd tfdt trun sdtp sgpd sbgp subs"),
    b"mfra": codes("tfra mfro"),
    b"sv3d": codes("svhd proj"),
}
_IN_VISUAL_ENTRY = codes(
    "avcC hvcC lhvC lvcC vvcC evcC av1C vpcC esds d263 jp2h glbl ACLR ARES AALP APRG fiel gama "
    "colr nclc pasp clap mdcv clli SmDm CoLL cclv amve dvcC dvvC dvwC hvcE avcE hfov vexu st3d sv3d btrt bitr "
    "auxi ccst"
)
_IN_SOUND_ENTRY = codes(
    "esds wave chan chnl srat dac3 dec3 dac4 dOps dfLa dmlp ddts udts alac mhaC mhaP pcmC damr SA3D btrt"
)
_COMPRESSOR_NAME = 42, 32  # offset and length in a visual sample entry
# Decoders of two old codecs use these names.
_MEANT_COMPRESSORS = (b"Planar Y'CbCr", b"Sorenson H263")
# Writers align chunks, which leaves thousands of gaps. A position takes more than this in every known format.
_ALIGNMENT_BYTES = 15


def free(edits: Edits, box: Box) -> None:
    """Turn a box into a zeroed ``free`` box. A box of padding keeps its type."""
    if box.type not in PADDING:
        edits.put(box.offset + 4, b"free")
    edits.zero(box.payload, box.end - box.payload)


class MovieScrub:
    """Scrubs one of these boxes, loaded completely. ``kept`` are the tracks that stay. CORRUPT if damaged."""

    def __init__(self, kept: Sequence[Track], edits: Edits) -> None:
        self._kept = {track.box.offset: track for track in kept}
        self._kept_ids = {track.track_id for track in kept}
        self._edits = edits

    def walk(self, parent: Box) -> None:
        """Scrub the children of ``parent``, whose type is in the table above. The table limits the recursion."""
        stays = _STAYS[parent.type]
        boxes = parent.children()
        for box in boxes:
            if parent.type == b"trak" and box.type == b"uuid":
                self._replace(box, neutral_spherical(bytes(box.content)))
            elif box.type not in stays or not self._belongs(box):
                free(self._edits, box)
            elif box.type in _STAYS:
                self.walk(box)
            else:
                self._clean(box)
        self._zero_leftover(boxes, parent)

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
            case b"hdlr":
                # After version, component type and subtype: manufacturer, flags, mask and the free name.
                self._zero(box, 12)
            case b"dref":  # all are self-contained, but an alias can still contain the path on its author's disk
                for entry in box.children(8):
                    self._zero(entry, 4)
            case b"tref":
                for reference in box.children():
                    if not self._kept_ids.issuperset(reference.integers(f"{len(reference.content) // 4}I")):
                        free(self._edits, reference)
            case b"stsd":
                self._clean_sample_descriptions(box)
            case b"svhd":  # the name of the tool that wrote it
                self._zero(box, 4)

    def _clean_sample_descriptions(self, stsd: Box) -> None:
        track = next(each for each in self._kept.values() if each.box.offset < stsd.offset < each.box.end)
        entries = stsd.children(8)
        for entry in entries:
            if track.handler in VISUAL_HANDLERS:
                name = entry.at(*_COMPRESSOR_NAME)
                if not bytes(name[1:]).startswith(_MEANT_COMPRESSORS):
                    self._edits.zero(entry.payload + _COMPRESSOR_NAME[0], len(name))
                self._clean_entry(entry, VISUAL_ENTRY_BYTES, _IN_VISUAL_ENTRY)
            elif track.handler == b"soun":
                # QuickTime's versions 1 and 2 have 16 and 36 bytes more (QuickTime File Format, sound sample
                # descriptions); ISO's version 1 has none; the version of its parent shows it.
                (version,) = entry.integers("H", 8)
                more = {1: 16, 2: 36}.get(version, 0) if stsd.integers("B") == (0,) else 0
                self._clean_entry(entry, 28 + more, _IN_SOUND_ENTRY)
        self._zero_leftover(entries, stsd, 8)

    def _clean_entry(self, entry: Box, fixed: int, stays: frozenset[bytes]) -> None:
        entry.at(0, fixed)
        self._edits.zero(entry.payload + 12, 4)  # vendor
        boxes = entry.children(fixed)
        for box in boxes:
            if box.type not in stays:
                free(self._edits, box)
            elif box.type == b"dfLa":
                self._edits.put(box.payload + 4, neutral_flac_blocks(bytes(box.content[4:])))
            elif box.type == b"colr":
                self._replace(box, neutral_colr(box.content))
            elif box.type == b"auxi":  # a name that ends with a zero
                self._replace(box, bytes(box.content[:4]) + bytes(box.content[4:]).partition(b"\0")[0])
            elif box.type == b"sv3d":
                self.walk(box)
            elif box.type in CODEC_PRIVATE:
                for offset, new in CODEC_PRIVATE[box.type].changes_of_private(bytes(box.content)):
                    self._edits.put(box.payload + offset, new)
        self._zero_leftover(boxes, entry, fixed)

    def _replace(self, box: Box, kept: bytes) -> None:
        """Write ``kept`` and zeros after it as the content. If it is empty, the box becomes ``free``."""
        if kept:
            self._edits.put(box.payload, kept)
            self._zero(box, len(kept))
        else:
            free(self._edits, box)


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
