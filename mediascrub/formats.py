"""The formats that are scrubbed."""

from __future__ import annotations

from enum import StrEnum


class MediaKind(StrEnum):
    """Images are rewritten (`read_picture`), videos are patched in place (`plan_movie`)."""

    IMAGE = "image"
    VIDEO = "video"


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

    @property
    def kind(self) -> MediaKind:
        """What files of this format show."""
        return MediaKind.VIDEO if self in _VIDEOS else MediaKind.IMAGE


_VIDEOS = frozenset((Format.MP4, Format.MOV, Format.WEBM, Format.MKV))
