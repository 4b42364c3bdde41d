"""The scrub of ``moov``, ``moof`` and ``mfra``: what is not known to be needed becomes a zeroed ``free`` box.

What stays is listed, not what goes: makers invent boxes faster than a list of them could follow. Free text and dates
inside boxes that stay are zeroed. Private messages in codec configurations become filler; for those in samples see
`formats.coded_samples`.
"""

from __future__ import annotations

from avion_media.media.bounds import corrupt
from avion_media.media.coded_data import changes_of_private
from avion_media.media.formats.codec_private import neutral_flac_blocks, neutral_spherical
from avion_media.media.formats.icc import neutral_colr
from avion_media.media.formats.isobmff import Box, Region, leftover
from avion_media.media.formats.movie import Edits
from avion_media.media.formats.mp4.moov import CODEC_PRIVATE, VISUAL_ENTRY_BYTES, Movie, Track

_FREE = frozenset((b"free", b"skip", b"wide"))


def _types(names: str) -> frozenset[bytes]:
    return frozenset(name.ljust(4).encode() for name in names.split())


# What stays in each kind of parent. Parents that are listed themselves are walked; all else stays as it is.
_STAYS: dict[bytes, frozenset[bytes]] = {
    b"moov": _types("mvhd trak mvex"),
    b"trak": _types("tkhd tapt edts tref mdia trgr load"),
    b"tapt": _types("clef prof enof"),
    b"edts": _types("elst"),
    b"mdia": _types("mdhd hdlr minf elng"),
    b"minf": _types("vmhd smhd gmhd sthd nmhd hdlr dinf stbl"),
    b"gmhd": _types("gmin"),
    b"dinf": _types("dref"),
    b"stbl": _types("stsd stts ctts cslg stss stps stsh stsc stsz stz2 stco co64 sdtp stdp padb sgpd sbgp subs"),
    b"mvex": _types("mehd trex leva trep"),
    b"moof": _types("mfhd traf"),
    b"traf": _types("tfhd tfdt trun sdtp sgpd sbgp subs"),
    b"mfra": _types("tfra mfro"),
}
_IN_VISUAL_ENTRY = _types(
    "avcC hvcC lhvC lvcC vvcC evcC av1C vpcC esds d263 jp2h glbl ACLR ARES AALP APRG fiel gama "
    "colr nclc pasp clap mdcv clli SmDm CoLL cclv amve dvcC dvvC dvwC hvcE avcE hfov vexu st3d sv3d btrt bitr"
)
_IN_SOUND_ENTRY = _types(
    "esds wave chan chnl srat dac3 dec3 dac4 dOps dfLa dmlp ddts udts alac mhaC mhaP pcmC damr SA3D btrt"
)
_DATES = {b"mvhd", b"tkhd", b"mdhd"}
_COMPRESSOR_OFFSET, _COMPRESSOR_BYTES = 50, 32  # in a visual sample entry
# Decoders of two old codecs go by these names.
_MEANT_COMPRESSORS = (b"Planar Y'CbCr", b"Sorenson H263")


class MovieScrub:
    """Collects in ``edits`` what changes inside one of those, loaded whole. Raises `Rejected` (corrupt)."""

    def __init__(self, region: Region, movie: Movie) -> None:
        self.edits = Edits(region.data, region.base)
        self._region = region
        self._kept = {track.box.offset: track for track in movie.kept}
        self._kept_ids = {track.track_id for track in movie.kept}

    def walk(self, parent: Box) -> None:
        """Scrub the children of ``parent``, whose type is in the table above; its depth bounds the recursion."""
        stays = _STAYS[parent.type]
        boxes = self._region.children(parent.payload, parent.end)
        for box in boxes:
            if box.type in _FREE:
                self.edits.zero(box.payload, box.end - box.payload)
            elif parent.type == b"trak" and box.type == b"uuid":
                self._replace(box, neutral_spherical(self._region.content(box)))
            elif box.type not in stays or not self._belongs(box):
                self._free(box)
            elif box.type in _STAYS:
                self.walk(box)
            else:
                self._clean(box)
        self._zero_leftover(boxes, parent.payload, parent.end)

    def _belongs(self, box: Box) -> bool:
        if box.type == b"trak":
            return box.offset in self._kept
        if box.type == b"traf":
            return self._fragment_track(box) in self._kept_ids
        return True

    def _fragment_track(self, traf: Box) -> int | None:
        for box in self._region.children(traf.payload, traf.end):
            if box.type == b"tfhd":
                return self._region.integers(box, "I", 4)[0]
        return None

    def _free(self, box: Box) -> None:
        self.edits.put(box.offset + 4, b"free")
        self.edits.zero(box.payload, box.end - box.payload)

    def _zero_leftover(self, boxes: list[Box], start: int, end: int) -> None:
        rest = leftover(boxes, start)
        self.edits.zero(rest, end - rest)

    def _clean(self, box: Box) -> None:
        if box.type in _DATES:
            version = self._region.integers(box, "B")[0]
            self.edits.zero(box.payload + 4, 16 if version == 1 else 8)
        elif box.type == b"hdlr":
            # After version, component type and subtype: manufacturer, flags, mask and the free name.
            self.edits.zero(box.payload + 12, box.end - box.payload - 12)
        elif box.type == b"dref":
            self._clean_data_references(box)
        elif box.type == b"tref":
            self._clean_track_references(box)
        elif box.type == b"stsd":
            self._clean_sample_descriptions(box)

    def _clean_data_references(self, dref: Box) -> None:
        """All are self-contained by now; an alias may still hold the path on its author's disk."""
        for entry in self._region.children(dref.payload + 8, dref.end):
            self.edits.zero(entry.payload + 4, entry.end - entry.payload - 4)

    def _clean_track_references(self, tref: Box) -> None:
        for box in self._region.children(tref.payload, tref.end):
            count = (box.end - box.payload) // 4
            if not self._kept_ids.issuperset(self._region.integers(box, f"{count}I")):
                self._free(box)

    def _clean_sample_descriptions(self, stsd: Box) -> None:
        track = self._enclosing_track(stsd)
        entries = self._region.children(stsd.payload + 8, stsd.end)
        for entry in entries:
            if track.handler == b"vide":
                self._clean_visual_entry(entry)
            elif track.handler == b"soun":
                self._clean_sound_entry(entry, *self._region.integers(stsd, "B"))
        self._zero_leftover(entries, stsd.payload + 8, stsd.end)

    def _enclosing_track(self, box: Box) -> Track:
        return next(track for track in self._kept.values() if track.box.offset < box.offset < track.box.end)

    def _clean_visual_entry(self, entry: Box) -> None:
        if entry.size < VISUAL_ENTRY_BYTES:
            raise corrupt("visual sample entry is too short")
        self.edits.zero(entry.offset + 20, 4)  # vendor
        name = self._region.at(entry.offset + _COMPRESSOR_OFFSET, _COMPRESSOR_BYTES)
        if not name[1:].startswith(_MEANT_COMPRESSORS):
            self.edits.zero(entry.offset + _COMPRESSOR_OFFSET, _COMPRESSOR_BYTES)
        self._clean_entry_children(entry.offset + VISUAL_ENTRY_BYTES, entry.end, _IN_VISUAL_ENTRY)

    def _clean_sound_entry(self, entry: Box, stsd_version: int) -> None:
        (version,) = self._region.integers(entry, "H", 8)
        self.edits.zero(entry.offset + 20, 4)  # vendor
        # QuickTime's versions 1 and 2 have 16 and 36 bytes more (QuickTime File Format, sound sample descriptions);
        # ISO's version 1 has none; the version of its parent shows it.
        fixed = 36 + ({1: 16, 2: 36}.get(version, 0) if stsd_version == 0 else 0)
        if entry.size < fixed:
            raise corrupt("sound sample entry is too short")
        self._clean_entry_children(entry.offset + fixed, entry.end, _IN_SOUND_ENTRY)

    def _clean_entry_children(self, start: int, end: int, stays: frozenset[bytes]) -> None:
        boxes = self._region.children(start, end)
        for box in boxes:
            if box.type not in stays:
                self._free(box)
            elif box.type == b"dfLa":
                self._neutral_flac(box)
            elif box.type == b"colr":
                self._replace(box, neutral_colr(self._region.content(box)))
            elif box.type == b"sv3d":
                self._clean_spherical(box)
            elif box.type in CODEC_PRIVATE:
                for offset, new in changes_of_private(CODEC_PRIVATE[box.type], self._region.content(box)):
                    self.edits.put(box.payload + offset, new)
        self._zero_leftover(boxes, start, end)

    def _replace(self, box: Box, kept: bytes) -> None:
        """Put what stays of the content, and zeros behind it; without any the box becomes ``free``."""
        if not kept:
            self._free(box)
            return
        self.edits.put(box.payload, kept)
        rest = box.payload + len(kept)
        self.edits.zero(rest, box.end - rest)

    def _clean_spherical(self, sv3d: Box) -> None:
        """The header names the tool that wrote it."""
        for box in self._region.children(sv3d.payload, sv3d.end):
            if box.type == b"svhd":
                self.edits.zero(box.payload + 4, box.end - box.payload - 4)
            elif box.type != b"proj":
                self._free(box)

    def _neutral_flac(self, box: Box) -> None:
        blocks = self._region.content(box, 4)
        self.edits.put(box.payload + 4, neutral_flac_blocks(blocks))
