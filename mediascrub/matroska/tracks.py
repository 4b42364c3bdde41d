"""Matroska's Info and Tracks (RFC 9559): the timing and the tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mediascrub.bounds import VideoBounds
from mediascrub.coded_data import CODINGS, Coding
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.matroska.ebml import Element, Elements

TIMESTAMP_SCALE, DURATION = 0x2AD7B1, 0x4489
TRACK_ENTRY = 0xAE
_DISPLAY_UNIT_UNKNOWN = 4
_TYPE_VIDEO, _TYPE_AUDIO = 1, 2
_STILL_CODECS = frozenset(("V_MJPEG", "V_PNG"))  # previews beside the picture; JPEGs carry Exif
_MOVING_CODECS = CODINGS.keys() - _STILL_CODECS
_AUDIO_CODECS = frozenset(("A_OPUS", "A_VORBIS"))  # of a file with sound alone


class InTrack(IntEnum):
    """The children of a TrackEntry that stay. The reader uses some of them."""

    TRACK_NUMBER, TRACK_TYPE = 0xD7, 0x83
    TRACK_UID = 0x73C5  # mandatory, a random number
    FLAG_ENABLED, FLAG_DEFAULT, FLAG_FORCED, FLAG_LACING = 0xB9, 0x88, 0x55AA, 0x9C
    FLAG_HEARING_IMPAIRED, FLAG_VISUAL_IMPAIRED, FLAG_TEXT_DESCRIPTIONS = 0x55AB, 0x55AC, 0x55AD
    FLAG_ORIGINAL, FLAG_COMMENTARY = 0x55AE, 0x55AF
    MIN_CACHE, MAX_CACHE, MAX_BLOCK_ADDITION_ID = 0x6DE7, 0x6DF8, 0x55EE
    DEFAULT_DURATION, DEFAULT_DECODED_FIELD_DURATION = 0x23E383, 0x234E7A
    TRACK_TIMESTAMP_SCALE, TRACK_OFFSET = 0x23314F, 0x537F
    BLOCK_ADDITION_MAPPING = 0x41E4  # Dolby Vision's configuration
    LANGUAGE, LANGUAGE_BCP47 = 0x22B59C, 0x22B59D
    CODEC_ID, CODEC_PRIVATE, CODEC_DELAY, SEEK_PRE_ROLL, CODEC_DECODE_ALL = 0x86, 0x63A2, 0x56AA, 0x56BB, 0xAA
    VIDEO, AUDIO, TRACK_OPERATION, TRACK_OVERLAY, CONTENT_ENCODINGS = 0xE0, 0xE1, 0xE2, 0x6FAB, 0x6D80


class InVideo(IntEnum):
    """The children of Video that the reader uses. All are integers."""

    PIXEL_WIDTH, PIXEL_HEIGHT = 0xB0, 0xBA
    CROP_BOTTOM, CROP_TOP, CROP_LEFT, CROP_RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD
    DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2


_VIDEO_INTEGERS = frozenset(InVideo)


@dataclass(frozen=True, slots=True)
class SegmentTiming:
    """``scale`` nanoseconds make a tick; ``duration_s`` is 0.0 if the file does not have it."""

    scale: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class TrackEntry:
    """One TrackEntry. ``size`` is that of the picture in coded pixels, whose width ``pixel_aspect`` stretches."""

    entry: Element
    number: int
    type: int
    codec: str | None
    frame_s: float
    shown: int  # 2 if players show it by default, 1 if they can show it, 0 if it is disabled
    is_video: bool
    size: tuple[int, int]
    pixel_aspect: float
    private: bytes
    encoded: bool  # its blocks are compressed once more, or encrypted

    @property
    def coding(self) -> Coding | None:
        """The coding of its blocks, if they can be read and might have private messages; else None."""
        return CODINGS.get(self.codec or "") if self.is_video and not self.encoded else None


def main_video(tracks: Sequence[TrackEntry]) -> TrackEntry:
    """Return the first default track that is no still. Raises `ScrubError`: no_video, unsupported."""
    videos = [track for track in tracks if track.is_video]
    if not videos:
        raise ScrubError(ScrubCode.NO_VIDEO)
    main = max(videos, key=lambda track: (track.codec in _MOVING_CODECS, track.shown))  # the first of equals
    if main.codec not in CODINGS:
        raise ScrubError(ScrubCode.UNSUPPORTED, f"video codec {str(main.codec)[:40]}")
    return main


def has_sound_alone(tracks: Sequence[TrackEntry]) -> bool:
    """Return whether there is sound, and no picture."""
    return {track.type for track in tracks if track.type in (_TYPE_VIDEO, _TYPE_AUDIO)} == {_TYPE_AUDIO}


def main_sound(tracks: Sequence[TrackEntry]) -> TrackEntry:
    """Return the only track of sound. Raises `ScrubError`: no_sound, several_tracks, encrypted, unsupported."""
    sound = [track for track in tracks if track.type == _TYPE_AUDIO]
    if not sound:
        raise ScrubError(ScrubCode.NO_SOUND)
    if len(sound) > 1 or any(track.type == _TYPE_VIDEO for track in tracks):
        raise ScrubError(ScrubCode.SEVERAL_TRACKS)
    if sound[0].encoded:
        raise ScrubError(ScrubCode.ENCRYPTED, "encrypted, or compressed once more")
    if sound[0].codec not in _AUDIO_CODECS:
        raise ScrubError(ScrubCode.UNSUPPORTED, f"audio codec {str(sound[0].codec)[:40]}")
    return sound[0]


def stream_of(video: TrackEntry, tracks: Sequence[TrackEntry]) -> str:
    """Return the ``stream`` of `MoviePlan`. libav makes a stream of every TrackEntry that names a codec."""
    return f"V:{[track for track in tracks if track.type == _TYPE_VIDEO and track.codec is not None].index(video)}"


def kept_tracks(tracks: Sequence[TrackEntry]) -> tuple[TrackEntry, ...]:
    """Return the tracks that stay: enabled pictures and sound. Subtitles can contain a drone's position."""
    main = main_video(tracks)
    return tuple(
        track
        for track in tracks
        if track is main
        or (track.shown and (track.type == _TYPE_AUDIO or (track.is_video and track.codec in _MOVING_CODECS)))
    )


def read_timing(elements: Elements, info: Element) -> SegmentTiming:
    """Read Info. Raises `ScrubError` (corrupt)."""
    scale, ticks = 1_000_000, 0.0
    for child in elements.children(info):
        if child.id == TIMESTAMP_SCALE:
            scale = elements.unsigned(child)
        elif child.id == DURATION:
            ticks = elements.number(child)
    if scale == 0:
        raise corrupt("timestamp scale 0")
    return SegmentTiming(scale, max(0.0, ticks * scale / 1e9))


def read_tracks(elements: Elements, tracks: Element, bounds: VideoBounds) -> tuple[TrackEntry, ...]:
    """Read Tracks. Raises `ScrubError` (corrupt)."""
    entries = list(elements.inside(tracks, TRACK_ENTRY))
    if len(entries) > bounds.max_tracks:
        raise corrupt(f"{len(entries)} tracks")
    return tuple(_read_track(elements, entry) for entry in entries)


def _read_track(elements: Elements, entry: Element) -> TrackEntry:
    found = {child.id: child for child in elements.children(entry)}  # the last of several counts

    def number(identifier: int, default: int = 0) -> int:
        return elements.unsigned(found[identifier]) if identifier in found else default

    def content(identifier: int) -> bytes:
        return elements.content(found[identifier]) if identifier in found else b""

    children = elements.children(found[InTrack.VIDEO]) if InTrack.VIDEO in found else ()
    video = {child.id: elements.unsigned(child) for child in children if child.id in _VIDEO_INTEGERS}
    size, pixel_aspect = _read_size(video)
    kind = number(InTrack.TRACK_TYPE)
    codec = content(InTrack.CODEC_ID).rstrip(b"\0").decode("latin-1") if InTrack.CODEC_ID in found else None
    return TrackEntry(
        entry=entry,
        number=number(InTrack.TRACK_NUMBER),
        type=kind,
        codec=codec,
        frame_s=number(InTrack.DEFAULT_DURATION) / 1e9,
        shown=(2 if number(InTrack.FLAG_DEFAULT, 1) else 1) if number(InTrack.FLAG_ENABLED, 1) else 0,
        is_video=kind == _TYPE_VIDEO and codec is not None and bool(video),
        size=size,
        pixel_aspect=pixel_aspect,
        private=content(InTrack.CODEC_PRIVATE),
        encoded=InTrack.CONTENT_ENCODINGS in found,
    )


def _read_size(video: dict[int, int]) -> tuple[tuple[int, int], float]:
    """Return the cropped size, and the pixel aspect with which it is displayed, from the children of Video by id."""
    width, height = video.get(InVideo.PIXEL_WIDTH, 0), video.get(InVideo.PIXEL_HEIGHT, 0)
    cropped_width = width - video.get(InVideo.CROP_LEFT, 0) - video.get(InVideo.CROP_RIGHT, 0)
    cropped_height = height - video.get(InVideo.CROP_TOP, 0) - video.get(InVideo.CROP_BOTTOM, 0)
    if min(cropped_width, cropped_height) >= 1:
        width, height = cropped_width, cropped_height
    across, down = video.get(InVideo.DISPLAY_WIDTH, width) * height, video.get(InVideo.DISPLAY_HEIGHT, height) * width
    known = video.get(InVideo.DISPLAY_UNIT, 0) < _DISPLAY_UNIT_UNKNOWN and across and down
    return (width, height), across / down if known else 1.0
