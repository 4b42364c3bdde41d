"""The formats that are scrubbed."""

from __future__ import annotations

from enum import StrEnum


class MediaKind(StrEnum):
    """Images are rewritten (`read_picture`), videos and audio are patched in place (`plan_movie`)."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


class Format(StrEnum):
    """A format, by its common name in lower case."""

    JPEG = "jpeg"
    PNG = "png"
    GIF = "gif"
    WEBP = "webp"
    AVIF = "avif"
    HEIC = "heic"
    MP4 = "mp4"
    MOV = "mov"
    WEBM = "webm"
    MKV = "mkv"
    MP3 = "mp3"
    OGG = "ogg"
    FLAC = "flac"
    M4A = "m4a"  # MP4 without pictures
    WAV = "wav"
    WEBA = "weba"  # WebM without pictures

    @property
    def kind(self) -> MediaKind:
        """What files of this format show."""
        if self in _AUDIO:
            return MediaKind.AUDIO
        return MediaKind.VIDEO if self in _VIDEOS else MediaKind.IMAGE

    @property
    def other(self) -> Format | None:
        """The format that a file can have which begins like this one. Only its plan knows."""
        return _OTHERS.get(self)


_VIDEOS = frozenset((Format.MP4, Format.MOV, Format.WEBM, Format.MKV))
_AUDIO = frozenset((Format.MP3, Format.OGG, Format.FLAC, Format.M4A, Format.WAV, Format.WEBA))
# No picture comes with the sound, or an ID3 tag before FLAC.
_OTHERS = {Format.MP4: Format.M4A, Format.WEBM: Format.WEBA, Format.MP3: Format.FLAC}
