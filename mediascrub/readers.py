"""The readers by format."""

from __future__ import annotations

from mediascrub import flac, gif, heif, jpeg, matroska, mp3, mp4, ogg, png, wav, webp
from mediascrub.bounds import PictureBounds, VideoBounds
from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.formats import Format
from mediascrub.movie import POSTER_S, MovieFormat, MoviePlan
from mediascrub.picture import Peek, Picture, PictureFormat
from mediascrub.sparse import SparseFile

PEEK_BYTES = 1 << 20
"""Bytes for `peek`. So many, because profiles and previews can come before a JPEG's frame header."""

_PICTURES: dict[Format, PictureFormat] = {
    Format.JPEG: jpeg,
    Format.PNG: png,
    Format.GIF: gif,
    Format.WEBP: webp,
    Format.AVIF: heif.AVIF,
    Format.HEIC: heif.HEIC,
}
_MOVIES: dict[Format, MovieFormat] = {
    **dict.fromkeys((Format.MP4, Format.MOV, Format.M4A), mp4),
    **dict.fromkeys((Format.WEBM, Format.MKV, Format.WEBA), matroska),
    Format.MP3: mp3,
    Format.OGG: ogg,
    Format.FLAC: flac,
    Format.WAV: wav,
}


def peek(head: bytes, fmt: Format) -> Peek | None:
    """Return the size of a picture by its first `PEEK_BYTES`; None if they do not show it. Never raises.

    It takes a few milliseconds at most, whatever the bytes are, and can be called on an event loop.
    It trusts the header, so only `read_picture` is sure.
    """
    return _PICTURES[fmt].peek(head)


def read_picture(view: memoryview, fmt: Format, bounds: PictureBounds | None = None) -> Picture:
    """Read a picture of format ``fmt``, as detected by `sniff`. Its ``original`` is the scrubbed file.

    Nothing is decoded; time and memory are linear in the length. The original is rarely longer than ``view`` (by a few
    dozen bytes at most). A file that was cut short inside its picture data stays cut short there, so that a decoder
    treats the original like the source.

    Raises `ScrubError`: CORRUPT for a structure that no decoder can follow, UNSUPPORTED for features that are not on
    the list, EMPTY, EXTERNAL_REFERENCE, and the codes of `Picture.check`. Hostile files raise nothing else.
    """
    if not view:
        raise ScrubError(ScrubCode.EMPTY, "no bytes")
    picture = _PICTURES[fmt].read(view)
    picture.check(bounds or PictureBounds())
    return picture


def plan_movie(
    file: SparseFile, fmt: Format, *, poster_s: float = POSTER_S, bounds: VideoBounds | None = None
) -> MoviePlan:
    """Plan the scrub of a video or an audio file whose content is of ``fmt``, from its container's structure alone.

    The plan also names the byte ranges from which the first ``poster_s`` can be decoded; of sound, all. Its
    format is ``fmt.other`` if the file turns out to be of that. Nothing is changed:
    the caller applies ``patches``. Raises `Missing` if more of the file is needed: fetch that and call again. Raises
    `ScrubError` if the file is at fault, with any code but EMPTY and TOO_MANY_FRAMES. Hostile files raise nothing
    else; time and memory are bounded by ``bounds``.
    """
    return _MOVIES[fmt].plan(file, fmt, poster_s=poster_s, bounds=bounds or VideoBounds())
