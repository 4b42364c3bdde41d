"""The ``moov`` box: the tracks of a movie, how they are shown, and where their samples are."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.coded_data import CODINGS, Coding, nal
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.isobmff import Box, clean_aperture, codes, first, required
from mediascrub.sample_table import SampleTable, read_sample_table

VISUAL_ENTRY_BYTES = 78  # of a visual sample entry, before its child boxes: ISO/IEC 14496-12, 12.1.3

# Editors write a few. For each, a decoder begins at a sync sample again: a thousand took minutes for one picture.
_MAX_EDITS = 100

# Still pictures as a second video track are previews and chapter images, and JPEGs carry Exif.
_STILL_CODECS = frozenset(("jpeg", "mjpa", "mjpb", "mjpg", "png ", "tiff", "gif "))
# In ``esds``: an elementary stream (tag 3) without options, its decoder's configuration (tag 4), and there the type of
# its objects (ISO/IEC 14496-1, 7.2.6 and table 5). The lengths take up to four bytes.
_OBJECT_TYPE = re.compile(
    rb".{4}\x03[\x80-\xff]{0,3}[\x00-\x7f]..[\x00-\x1f]\x04[\x80-\xff]{0,3}[\x00-\x7f](.)", re.DOTALL
)
_OBJECT_TYPES = {b"\x20": "mp4v", b"\x6c": "jpeg", b"\x6d": "png "}
_CODEC_PRIVATE = codes("avcC hvcC av1C")
VISUAL_HANDLERS = (b"vide", b"pict", b"auxv")  # of videos, of image sequences and their transparency
_ENABLED = 1  # of the flags in tkhd
_ENCRYPTED = frozenset((b"encv", b"enca", b"drmi", b"drms"))
_AUDIO_CODECS = frozenset(("aac", "alac"))  # of a file with sound alone
_AAC_OBJECTS = (b"\x40", b"\x66", b"\x67", b"\x68")
# Captions in CEA-608/708 and subtitles in TTML or WebVTT. No other text: drones write their position there, chapter
# titles are free text, and neither can be distinguished without reading every sample.
_CAPTIONS = {b"clcp": codes("c608 c708"), b"subt": codes("stpp wvtt")}


@dataclass(frozen=True, slots=True)
class Track:
    """One ``trak``."""

    box: Box
    track_id: int
    enabled: bool
    handler: bytes
    timescale: int  # units of time in a second
    display: tuple[int, int]
    edits: tuple[tuple[int, int, int], ...]  # duration in the movie's timescale, media time, rate (16 bits fraction)
    codec: str  # of a video, as `CODINGS` names it; else empty
    size: tuple[float, float]  # of a video's picture, in coded pixels
    pixel_aspect: float  # which stretches its width
    private: bytes  # a video codec's configuration
    sound: tuple[SoundPacket, ...]  # one for each sample entry of a sound track
    stsd_version: int
    table: SampleTable
    tables: Sequence[Box]  # the boxes of its sample table
    entries: Sequence[Box]  # its sample entries
    cut: bool = False  # ``table`` and ``edits`` are not those of the file, but only what is needed

    @property
    def presentation_start(self) -> int:
        """The media time at which it is first shown."""
        return next((media_time for _, media_time, _ in self.edits if media_time >= 0), 0)

    @property
    def is_still(self) -> bool:
        """Whether its samples are still pictures."""
        return self.codec in _STILL_CODECS

    @property
    def stays_beside_another(self) -> bool:
        """Whether it is captions, which are often disabled until somebody wants them, or enabled sound or video."""
        if self.handler in _CAPTIONS:
            return all(entry.type in _CAPTIONS[self.handler] for entry in self.entries)
        return self.enabled and (self.handler == b"soun" or (not self.is_still and self.codec in CODINGS))

    @property
    def coding(self) -> Coding | None:
        """The coding of its samples, if they might have private messages; else None."""
        return CODINGS.get(self.codec)


@dataclass(frozen=True, slots=True)
class Movie:
    """The whole ``moov``; ``defaults`` are those of fragments, (duration, size) by track id."""

    timescale: int
    tracks: tuple[Track, ...]
    defaults: dict[int, tuple[int, int]]
    is_audio: bool = False  # its sound alone counts

    @property
    def has_sound_alone(self) -> bool:
        """Whether it has sound, and no picture."""
        return {track.handler for track in self.tracks if track.codec or track.handler == b"soun"} == {b"soun"}

    @property
    def main_sound(self) -> Track:
        """The only track of sound. Raises `ScrubError`: no_sound, several_tracks (also pictures), unsupported."""
        sound = [track for track in self.tracks if track.handler == b"soun"]
        if not sound:
            raise ScrubError(ScrubCode.NO_SOUND)
        if len(sound) > 1 or any(track.codec and not track.is_still for track in self.tracks):
            raise ScrubError(ScrubCode.SEVERAL_TRACKS)
        codecs = {_sound_codec(entry, sound[0].stsd_version) for entry in sound[0].entries}
        if not codecs <= _AUDIO_CODECS:
            raise ScrubError(ScrubCode.UNSUPPORTED, f"audio codecs {sorted(codecs)}"[:80])
        return sound[0]

    @property
    def main_video(self) -> Track:
        """The first track that is enabled, and no still. Raises `ScrubError`: no_video, unsupported."""
        videos = [track for track in self.tracks if track.codec]
        if not videos:
            raise ScrubError(ScrubCode.NO_VIDEO)
        main = max(videos, key=lambda track: (not track.is_still, track.codec in CODINGS, track.enabled))  # the first
        if main.codec not in CODINGS:
            raise ScrubError(ScrubCode.UNSUPPORTED, f"video codec {main.codec}")
        return main

    @property
    def kept(self) -> tuple[Track, ...]:
        """The tracks that stay. The others are private (timed metadata, timecode, text), previews or disabled."""
        if self.is_audio:
            return (self.main_sound,)
        main = self.main_video
        return tuple(track for track in self.tracks if track is main or track.stays_beside_another)


def read_movie(moov: Box, bounds: VideoBounds) -> Movie:
    """Read ``moov``. Raises `ScrubError`: corrupt, external_reference, unsupported, too_complex."""
    boxes = moov.children()
    if first(boxes, b"cmov"):
        raise ScrubError(ScrubCode.UNSUPPORTED, "compressed movie header")
    if first(boxes, b"rmra"):
        raise ScrubError(ScrubCode.EXTERNAL_REFERENCE, "reference movie")
    traks = [box for box in boxes if box.type == b"trak"]
    if len(traks) > bounds.max_tracks:
        raise corrupt(f"{len(traks)} tracks")
    timescale = _read_timescale(required(boxes, b"mvhd", "moov"))
    quota = Quota(bounds.max_samples, "samples")
    tracks = tuple(_read_track(trak, quota) for trak in traks)
    mvex = first(boxes, b"mvex")
    defaults = {}
    for box in mvex.children() if mvex else ():
        if box.type == b"trex":
            track_id, duration, size = box.integers("I4xII", 4)
            defaults[track_id] = (duration, size)
    return Movie(timescale, tracks, defaults)


def _read_track(trak: Box, quota: Quota) -> Track:
    boxes = trak.children()
    tkhd = required(boxes, b"tkhd", "trak")
    version, flags = tkhd.integers("BxxB")
    (track_id,) = tkhd.integers("I", 20 if version == 1 else 12)
    width, height = tkhd.integers("II", 88 if version == 1 else 76)
    display = width >> 16, height >> 16
    media = required(boxes, b"mdia", "trak").children()
    handler = bytes(required(media, b"hdlr", "mdia").at(8, 4))
    info = required(media, b"minf", "mdia").children()
    _refuse_external_data(info)
    tables = required(info, b"stbl", "minf").children()
    table = read_sample_table(tables, quota)
    stsd = required(tables, b"stsd", "stbl")
    entries = stsd.children(8)
    if any(entry.type in _ENCRYPTED for entry in entries):
        raise ScrubError(ScrubCode.ENCRYPTED)
    pictures = [_read_visual_entry(entry, display) for entry in entries] if handler == b"vide" else []
    codec, size, pixel_aspect, private = pictures[0] if pictures else ("", (0, 0), 1.0, b"")
    if len({_kind(codec, private) for codec, _, _, private in pictures}) > 1:
        codec = "of several kinds"
    (stsd_version,) = stsd.integers("B")
    return Track(
        box=trak,
        track_id=track_id,
        enabled=bool(flags & _ENABLED),
        handler=handler,
        timescale=_read_timescale(required(media, b"mdhd", "mdia")),
        display=display,
        edits=_read_edits(first(boxes, b"edts", b"elst")),
        codec=codec,
        size=size,
        pixel_aspect=pixel_aspect,
        private=private,
        sound=tuple(_read_packet(entry, stsd_version) for entry in entries) if handler == b"soun" else (),
        stsd_version=stsd_version,
        table=table,
        tables=tables,
        entries=entries,
    )


def _read_timescale(header: Box) -> int:
    """Return the timescale in the ``mvhd`` of the movie, or in the ``mdhd`` of a track."""
    version = header.integers("B")[0]
    (timescale,) = header.integers("I", 20 if version == 1 else 12)
    if timescale == 0:
        raise corrupt(f"timescale 0 in {header.type!r}")
    return timescale


def _read_edits(elst: Box | None) -> tuple[tuple[int, int, int], ...]:
    if elst is None:
        return ()
    version, count = elst.integers("B3xI")
    layout, size = ("Qqi", 20) if version == 1 else ("Iii", 12)
    table = elst.at(8, count * size)
    if count > _MAX_EDITS:
        raise ScrubError(ScrubCode.TOO_COMPLEX, f"{count} edits")
    return tuple(struct.iter_unpack(">" + layout, table))


def _refuse_external_data(info: list[Box]) -> None:
    """Raise `ScrubError` if samples are in another file, which is never read: the track is broken, or an attack."""
    dref = first(info, b"dinf", b"dref")
    for entry in dref.children(8) if dref else ():
        (flags,) = entry.integers("I")
        if not flags & 1:
            raise ScrubError(ScrubCode.EXTERNAL_REFERENCE, f"data reference {entry.type!r}")


def _read_visual_entry(entry: Box, display: tuple[int, int]) -> tuple[str, tuple[float, float], float, bytes]:
    """Return the codec, the size (of the clean aperture, if there is one), the pixel aspect, and the configuration."""
    width, height = entry.integers("HH", 24)
    boxes = entry.children(VISUAL_ENTRY_BYTES)
    clap, pasp = first(boxes, b"clap"), first(boxes, b"pasp")
    across, down = pasp.integers("II") if pasp else (0, 0)
    if not (across and down):  # implied: in these pixels, the coded picture has the aspect of ``display``
        across, down = display[0] * height, display[1] * width
    size: tuple[float, float] = width, height
    if clap and (clean := clean_aperture(clap)) and 1 <= clean[0] <= width and 1 <= clean[1] <= height:
        size = clean  # decoders ignore one that is not inside the picture
    codec = _codec(entry, boxes)
    private = next((bytes(each.content) for each in boxes if each.type in _CODEC_PRIVATE), b"")  # as libav does
    return codec, size, across / down if across and down else 1.0, private


def _codec(entry: Box, boxes: Sequence[Box]) -> str:
    """Return the name of the entry, unless an ``esds`` among its ``boxes`` says something else. The last one counts."""
    codec = entry.type.decode("latin-1")
    for esds in (box for box in boxes if box.type == b"esds"):
        found = _OBJECT_TYPE.match(esds.content)
        codec = _OBJECT_TYPES.get(found[1] if found else b"", f"{codec} of another type")
    return codec


def sound_entry_bytes(entry: Box, stsd_version: int) -> int:
    """Return where the boxes of a sound sample entry begin.

    QuickTime's versions 1 and 2 have 16 and 36 bytes more (QuickTime File Format, sound sample descriptions); ISO's
    version 1 has none; the version of its parent shows it.
    """
    (version,) = entry.integers("H", 8)
    return 28 + ({1: 16, 2: 36}.get(version, 0) if stsd_version == 0 else 0)


def _sound_codec(entry: Box, stsd_version: int) -> str:
    """Return the name of the entry, of AAC ``aac``. In QuickTime its ``esds`` is in ``wave``."""
    boxes = entry.children(sound_entry_bytes(entry, stsd_version)) if entry.type == b"mp4a" else []
    esds = first(boxes, b"esds") or first(boxes, b"wave", b"esds")
    found = _OBJECT_TYPE.match(esds.content) if esds else None
    return "aac" if found and found[1] in _AAC_OBJECTS else entry.type.decode("latin-1")


def _kind(codec: str, private: bytes) -> tuple[object, int]:
    """Return what the samples of all entries must have in common: their coding, and the length before their units."""
    coding = CODINGS.get(codec, codec)
    return coding, coding.length_size(private) if isinstance(coding, nal.Codec) else 0


# --- sound: how many bytes of it a chunk holds, by its sample entry (QuickTime File Format) -----------------------

# For these the field of the entry is always 16.
_BITS = {b"ulaw": 8, b"alaw": 8, b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64}
_DEFAULT_BITS = 16
# Frames of a packet, and its bytes for each channel. Writers leave these out for well-known codecs.
_PACKETS = {b"ima4": (64, 34), b"MAC3": (6, 2), b"MAC6": (6, 1), b"agsm": (160, 33)}


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """``frames`` (one sample of each channel) that take ``size_bytes`` together; one frame if it is not packed."""

    size_bytes: int
    frames: int = 1

    def bytes_of(self, frames: int) -> int:
        """Return the bytes that so many frames take."""
        return -(-frames // self.frames) * self.size_bytes


def _read_packet(entry: Box, stsd_version: int) -> SoundPacket:
    """Return the packets of a sample entry. A missing value counts as large, because decoders guess it."""
    version, channels, bits = entry.integers("H6xHH", 8)
    frames, packet_bytes, frame_bytes = 1, 0, 0
    if stsd_version == 0 and version == 1:
        frames, packet_bytes, frame_bytes = entry.integers("III", 28)
        # Of one channel, and of all channels. Writers confuse the two.
        packet_bytes = max(packet_bytes * channels, frame_bytes)
    elif stsd_version == 0 and version == 2:
        channels, bits, packet_bytes, frames = entry.integers("I4xI4xII", 40)
    channels = max(1, channels)
    if entry.type in _PACKETS:
        frames, packet_bytes = _PACKETS[entry.type]
        return SoundPacket(packet_bytes * channels, frames)
    if frames > 1 and packet_bytes:
        return SoundPacket(packet_bytes, frames)
    # No codec makes sound longer than uncompressed.
    bits = _BITS.get(entry.type, bits or _DEFAULT_BITS)
    return SoundPacket(max(channels * -(-bits // 8), packet_bytes))
