"""The ``moov`` box: what tracks a movie has, how they are shown, and where their samples lie."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.bounds import VideoBounds, corrupt
from avion_media.media.coded_data import Coding, coding_of
from avion_media.media.formats.isobmff import Box, Region, first, required
from avion_media.media.formats.sample_table import SampleBudget, SampleTable, read_sample_table

VISUAL_ENTRY_BYTES = 86  # a visual sample entry up to its child boxes: ISO/IEC 14496-12, 12.1.3

# Editors write a few. Each makes a decoder begin at a sync sample again: a thousand took minutes for one picture.
_MAX_EDITS = 100

# Still pictures as a second video track are previews and chapter images, and JPEGs carry Exif.
_STILL_CODECS = frozenset((b"jpeg", b"mjpa", b"mjpb", b"mjpg", b"png ", b"tiff", b"gif "))
# The decoder's configuration (tag 4, its length in one or four bytes) of object type 0x6C (ISO/IEC 14496-1, table 5).
_MOTION_JPEG_IN_ESDS = re.compile(rb"\x04(?:[\x80-\xff]{3})?[\x00-\x7f]\x6c", re.DOTALL)
CODEC_PRIVATE = {b"avcC": Coding.H264, b"hvcC": Coding.HEVC, b"av1C": Coding.AV1}
_ENABLED = 1  # of the flags in tkhd
_ENCRYPTED = frozenset((b"encv", b"enca", b"drmi", b"drms"))
# Captions in CEA-608/708 and subtitles in TTML or WebVTT. Not ``text`` and ``sbtl``: drones write their position
# there, chapter titles are free text, and neither can be told apart without reading every sample.
_KEPT_HANDLERS = frozenset((b"vide", b"soun", b"clcp", b"subt"))


@dataclass(frozen=True, slots=True)
class Picture:
    """What a video track's first sample entry says: coded pixels, clean aperture in pixels, pixel aspect (w, h)."""

    width: int
    height: int
    aperture: tuple[float, float] | None
    pixel_aspect: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Track:
    """One ``trak``. Times are in ``timescale`` units a second; ``edits`` are (duration in the movie's, media time).

    ``sound`` is that of each sample entry, of a track of sound. ``private`` is the configuration of the codec.
    """

    box: Box
    track_id: int
    enabled: bool
    handler: bytes
    timescale: int
    display: tuple[int, int]
    edits: tuple[tuple[int, int], ...]
    codec: bytes
    picture: Picture | None
    private: bytes
    sound: tuple[SoundPacket, ...]
    table: SampleTable

    @property
    def is_still(self) -> bool:
        """Whether its samples are still pictures."""
        return self.codec in _STILL_CODECS

    @property
    def coding(self) -> Coding | None:
        """How its samples are coded, where they may hold private messages."""
        if self.handler != b"vide":
            return None
        if self.codec == b"mp4v" and _MOTION_JPEG_IN_ESDS.search(self.private):
            return Coding.MOTION_JPEG
        return coding_of(self.codec.decode("latin-1"))


@dataclass(frozen=True, slots=True)
class Movie:
    """The whole ``moov``: ``fragmented`` when it announces fragments, ``defaults`` (duration, size) by track id."""

    timescale: int
    tracks: tuple[Track, ...]
    fragmented: bool
    defaults: dict[int, tuple[int, int]]

    @property
    def main_video(self) -> Track:
        """The track that players show: the first enabled one that is no still. `Rejected` (no_video) without any."""
        videos = [track for track in self.tracks if track.handler == b"vide" and track.picture is not None]
        if not videos:
            raise Rejected(Reason.NO_VIDEO)
        return max(videos, key=lambda track: (not track.is_still, track.enabled))  # of equals, the first

    @property
    def kept(self) -> tuple[Track, ...]:
        """The tracks that stay. The others are private (timed metadata, timecode, text) or previews."""
        main = self.main_video
        return tuple(
            track for track in self.tracks if track.handler in _KEPT_HANDLERS and (track is main or not track.is_still)
        )


def read_movie(region: Region, moov: Box, bounds: VideoBounds) -> Movie:
    """Read ``moov``. Raises `Rejected`: corrupt, external_reference, unsupported_type, decoder_limit."""
    boxes = region.children(moov.payload, moov.end)
    if first(boxes, b"cmov"):
        raise Rejected(Reason.UNSUPPORTED_TYPE, "compressed movie header")
    if first(boxes, b"rmra"):
        raise Rejected(Reason.EXTERNAL_REFERENCE, "reference movie")
    traks = [box for box in boxes if box.type == b"trak"]
    if len(traks) > bounds.max_tracks:
        raise corrupt(f"{len(traks)} tracks")
    timescale = _read_timescale(region, required(boxes, b"mvhd", "moov"), "movie")
    budget = SampleBudget(bounds.max_samples)
    tracks = tuple(_read_track(region, trak, budget) for trak in traks)
    mvex = first(boxes, b"mvex")
    defaults = {} if mvex is None else _read_defaults(region, mvex)
    return Movie(timescale, tracks, mvex is not None, defaults)


def _read_defaults(region: Region, mvex: Box) -> dict[int, tuple[int, int]]:
    defaults = {}
    for box in region.children(mvex.payload, mvex.end):
        if box.type == b"trex":
            track_id, duration, size = region.integers(box, "I4xII", 4)
            defaults[track_id] = (duration, size)
    return defaults


def _read_track(region: Region, trak: Box, budget: SampleBudget) -> Track:
    boxes = region.children(trak.payload, trak.end)
    track_id, enabled, display = _read_track_header(region, required(boxes, b"tkhd", "trak"))
    mdia = required(boxes, b"mdia", "trak")
    media = region.children(mdia.payload, mdia.end)
    (handler,) = struct.unpack(">4s", region.at(required(media, b"hdlr", "mdia").payload + 8, 4))
    minf = required(media, b"minf", "mdia")
    info = region.children(minf.payload, minf.end)
    _refuse_external_data(region, info)
    stbl = required(info, b"stbl", "minf")
    tables = region.children(stbl.payload, stbl.end)
    table = read_sample_table(region, tables, budget)
    stsd = required(tables, b"stsd", "stbl")
    entries = _read_entries(region, stsd)
    entry = entries[0] if entries else None
    return Track(
        box=trak,
        track_id=track_id,
        enabled=enabled,
        handler=handler,
        timescale=_read_timescale(region, required(media, b"mdhd", "mdia"), "track"),
        display=display,
        edits=_read_edits(region, first(boxes, b"edts")),
        codec=entry.type if entry else b"",
        picture=_read_picture(region, entry) if entry and handler == b"vide" else None,
        private=_read_private(region, entry) if entry and handler == b"vide" else b"",
        sound=read_sound_packets(region, stsd, entries) if handler == b"soun" else (),
        table=table,
    )


def _read_track_header(region: Region, tkhd: Box) -> tuple[int, bool, tuple[int, int]]:
    version, flags = region.integers(tkhd, "BxxB")
    (track_id,) = region.integers(tkhd, "I", 20 if version == 1 else 12)
    width, height = region.integers(tkhd, "II", 88 if version == 1 else 76)
    return track_id, bool(flags & _ENABLED), (width >> 16, height >> 16)


def _read_timescale(region: Region, header: Box, what: str) -> int:
    """Of the ``mvhd`` of the movie, or the ``mdhd`` of a track."""
    version = region.integers(header, "B")[0]
    (timescale,) = region.integers(header, "I", 20 if version == 1 else 12)
    if timescale == 0:
        raise corrupt(f"timescale 0 of the {what}")
    return timescale


def _read_edits(region: Region, edts: Box | None) -> tuple[tuple[int, int], ...]:
    elst = first(region.children(edts.payload, edts.end), b"elst") if edts else None
    if elst is None:
        return ()
    version, count = region.integers(elst, "B3xI")
    layout, size = ("Qq4x", 20) if version == 1 else ("Ii4x", 12)
    if _MAX_EDITS < count <= (elst.end - elst.payload - 8) // size:
        raise Rejected(Reason.DECODER_LIMIT, f"{count} edits")
    if elst.payload + 8 + count * size > elst.end:
        raise corrupt(f"elst with {count} edits")
    return tuple(struct.iter_unpack(">" + layout, region.at(elst.payload + 8, count * size)))


def _refuse_external_data(region: Region, info: list[Box]) -> None:
    """Samples in another file are never followed, so such a track is broken at best and a trap at worst."""
    dinf = first(info, b"dinf")
    dref = first(region.children(dinf.payload, dinf.end), b"dref") if dinf else None
    if dref is None:
        return
    for entry in region.children(dref.payload + 8, dref.end):
        (flags,) = region.integers(entry, "I")
        if not flags & 1:
            raise Rejected(Reason.EXTERNAL_REFERENCE, f"data reference {entry.type!r}")


def _read_entries(region: Region, stsd: Box) -> list[Box]:
    entries = region.children(stsd.payload + 8, stsd.end)
    if entries and entries[0].type in _ENCRYPTED:
        raise corrupt("encrypted")
    return entries


def _read_picture(region: Region, entry: Box) -> Picture:
    width, height = region.integers(entry, "HH", 24)
    children = region.children(entry.offset + VISUAL_ENTRY_BYTES, entry.end)
    clap, pasp = first(children, b"clap"), first(children, b"pasp")
    aspect = region.integers(pasp, "II") if pasp else (0, 0)
    return Picture(
        width=width,
        height=height,
        aperture=_read_aperture(region, clap, width, height) if clap else None,
        pixel_aspect=(aspect[0], aspect[1]) if aspect[0] and aspect[1] else None,
    )


def _read_private(region: Region, entry: Box) -> bytes:
    children = region.children(entry.offset + VISUAL_ENTRY_BYTES, entry.end)
    box = next((each for each in children if each.type in (b"esds", *CODEC_PRIVATE)), None)
    return region.content(box) if box else b""


def _read_aperture(region: Region, clap: Box, width: int, height: int) -> tuple[float, float] | None:
    """The clean aperture's size; None when it is no part of the picture, as decoders then ignore it."""
    width_n, width_d, height_n, height_d = region.integers(clap, "IIII")
    if not (width_d and height_d):
        return None
    clean = width_n / width_d, height_n / height_d
    return clean if 1 <= clean[0] <= width and 1 <= clean[1] <= height else None


# --- sound: how many bytes of it a chunk holds, by its sample entry (QuickTime File Format) -----------------------

# The field of the entry holds 16 for these, whatever they are.
_BITS = {b"ulaw": 8, b"alaw": 8, b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64}
_DEFAULT_BITS = 16
# Frames of a packet, and its bytes for each channel. Writers leave out what everybody knows.
_PACKETS = {b"ima4": (64, 34), b"MAC3": (6, 2), b"MAC6": (6, 1), b"agsm": (160, 33)}


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """``frames`` (one sample of each channel) that take ``size_bytes`` together; one frame where it is not packed."""

    size_bytes: int
    frames: int = 1

    def bytes_of(self, frames: int) -> int:
        """What so many frames take."""
        return -(-frames // self.frames) * self.size_bytes


def read_sound_packets(region: Region, stsd: Box, entries: Sequence[Box]) -> tuple[SoundPacket, ...]:
    """The packets of each sample entry. What an entry leaves out is taken as large, as decoders may guess it.

    Raises `Rejected` (corrupt) on an entry that is too short.
    """
    (stsd_version,) = region.integers(stsd, "B")
    return tuple(_read_packet(region, entry, stsd_version) for entry in entries)


def _read_packet(region: Region, entry: Box, stsd_version: int) -> SoundPacket:
    version, channels, bits = region.integers(entry, "H6xHH", 8)
    frames, packet_bytes, frame_bytes = 1, 0, 0
    if stsd_version == 0 and version == 1:
        frames, packet_bytes, frame_bytes = region.integers(entry, "III", 28)
        # Of one channel, and of all of them. Writers mix them up.
        packet_bytes = max(packet_bytes * channels, frame_bytes)
    elif stsd_version == 0 and version == 2:
        channels, bits, packet_bytes, frames = region.integers(entry, "I4xI4xII", 40)
    channels = max(1, channels)
    if entry.type in _PACKETS:
        frames, packet_bytes = _PACKETS[entry.type]
        return SoundPacket(packet_bytes * channels, frames)
    if frames > 1 and packet_bytes:
        return SoundPacket(packet_bytes, frames)
    # No codec makes it longer than uncompressed sound.
    bits = _BITS.get(entry.type, bits or _DEFAULT_BITS)
    return SoundPacket(max(channels * -(-bits // 8), packet_bytes))
