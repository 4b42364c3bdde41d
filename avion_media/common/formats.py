"""The table of media formats: what is accepted, under which names, and the code each has inside a media id.

The codes are part of every id ever given out: the table only grows, and a code is never reused. They are below 128:
in ids of private media, 128 is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """What a client may declare and what the content is must belong to one family."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """One accepted format.

    ``name`` is also the name of its switch (``DECODERS__<NAME>``), ``switched_on`` where that stands unless it is set;
    ``extensions[0]`` is the one in object keys. ``shared_extensions`` are those of the same container with pictures.
    What is not ``shown_by_browsers`` has the rendition `FULL_SIZE`.
    """

    code: int
    name: str
    family: Family
    content_type: str
    extensions: tuple[str, ...]
    other_content_types: tuple[str, ...] = ()
    shared_extensions: tuple[str, ...] = ()
    switched_on: bool = True
    shown_by_browsers: bool = True

    @property
    def extension(self) -> str:
        """The extension used in object keys, without a dot."""
        return self.extensions[0]


JPEG = MediaFormat(1, "jpeg", Family.IMAGE, "image/jpeg", ("jpg", "jpeg", "jpe", "jfif"), ("image/jpg", "image/pjpeg"))
PNG = MediaFormat(2, "png", Family.IMAGE, "image/png", ("png", "apng"), ("image/apng", "image/x-png"))
GIF = MediaFormat(3, "gif", Family.IMAGE, "image/gif", ("gif",))
WEBP = MediaFormat(4, "webp", Family.IMAGE, "image/webp", ("webp",))
AVIF = MediaFormat(5, "avif", Family.IMAGE, "image/avif", ("avif", "avifs"), ("image/avif-sequence",))
HEIC = MediaFormat(
    6,
    "heic",
    Family.IMAGE,
    "image/heic",
    ("heic", "heif", "hif"),
    ("image/heif", "image/heic-sequence", "image/heif-sequence"),
    switched_on=False,
    shown_by_browsers=False,
)
MP4 = MediaFormat(
    32,
    "mp4",
    Family.VIDEO,
    "video/mp4",
    ("mp4", "m4v", "mp4v", "3gp", "3gpp", "3g2"),
    ("video/x-m4v", "application/mp4", "video/3gpp", "video/3gpp2"),
)
MOV = MediaFormat(33, "mov", Family.VIDEO, "video/quicktime", ("mov", "qt"))
WEBM = MediaFormat(34, "webm", Family.VIDEO, "video/webm", ("webm",))
MKV = MediaFormat(35, "mkv", Family.VIDEO, "video/x-matroska", ("mkv",), ("video/matroska",))
MP3 = MediaFormat(64, "mp3", Family.AUDIO, "audio/mpeg", ("mp3",), ("audio/mp3",))
OGG = MediaFormat(65, "ogg", Family.AUDIO, "audio/ogg", ("ogg", "oga", "opus"), ("audio/opus",))
FLAC = MediaFormat(66, "flac", Family.AUDIO, "audio/flac", ("flac",))
M4A = MediaFormat(
    67, "m4a", Family.AUDIO, "audio/mp4", ("m4a", "m4b"), ("audio/x-m4a",), shared_extensions=MP4.extensions
)
WAV = MediaFormat(68, "wav", Family.AUDIO, "audio/wav", ("wav", "wave"), ("audio/x-wav",))
WEBA = MediaFormat(69, "weba", Family.AUDIO, "audio/webm", ("weba",), shared_extensions=WEBM.extensions)

FORMATS: tuple[MediaFormat, ...] = (
    *(JPEG, PNG, GIF, WEBP, AVIF, HEIC),
    *(MP4, MOV, WEBM, MKV),
    *(MP3, OGG, FLAC, M4A, WAV, WEBA),
)

BY_CODE = {each.code: each for each in FORMATS}
BY_NAME = {each.name: each for each in FORMATS}
BY_EXTENSION = {extension: each for each in FORMATS for extension in each.extensions}
BY_CONTENT_TYPE = {
    content_type: each for each in FORMATS for content_type in (each.content_type, *each.other_content_types)
}


def by_content_type(content_type: str) -> MediaFormat | None:
    """The format that a ``Content-Type`` names (parameters and case ignored), or None."""
    return BY_CONTENT_TYPE.get(content_type.partition(";")[0].strip().lower())


def by_filename(filename: str, declared: MediaFormat | None = None) -> MediaFormat | None:
    """The format that a file name's extension names, or None; the ``declared`` one if that shares the extension."""
    _, dot, extension = filename.rpartition(".")
    if dot and declared is not None and extension.lower() in declared.shared_extensions:
        return declared
    return BY_EXTENSION.get(extension.lower()) if dot else None
