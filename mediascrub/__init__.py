"""The formats, one module each: the facts about a file, the scrub, and the file for the decoder.

Pure, synchronous functions on untrusted bytes. `peek` runs in the service, `read_picture` and `plan_movie` in the
sandbox; none of them needs an imaging library. Pictures are rewritten, videos are patched in place.
"""

from __future__ import annotations

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import AVIF, GIF, HEIC, JPEG, MKV, MOV, MP4, PNG, WEBM, WEBP, MediaFormat
from mediascrub import gif, heif, jpeg, matroska, mp4, png, webp
from mediascrub.bounds import PictureBounds, VideoBounds
from mediascrub.movie import POSTER_SECONDS, MovieFormat, MoviePlan
from mediascrub.picture import Peek, Picture, PictureFormat
from mediascrub.sparse import SparseFile

__all__ = ["PEEK_BYTES", "MoviePlan", "Peek", "Picture", "peek", "plan_movie", "read_picture"]

PEEK_BYTES = 1 << 20
"""Bytes for `peek`. So many, because profiles and previews can come before a JPEG's frame header."""

_PICTURES: dict[MediaFormat, PictureFormat]
_PICTURES = {JPEG: jpeg, PNG: png, GIF: gif, WEBP: webp, AVIF: heif.AVIF, HEIC: heif.HEIC}
_MOVIES: dict[MediaFormat, MovieFormat] = {MP4: mp4, MOV: mp4, WEBM: matroska, MKV: matroska}


def peek(head: bytes, fmt: MediaFormat) -> Peek | None:
    """Return size and decode cost of a picture by its first `PEEK_BYTES`; None if they do not show it. Never raises.

    It trusts the header. A forged header gains nothing: the job compares it with what it finds, and the sandbox limits
    the job to the granted memory.
    """
    return _PICTURES[fmt].peek(head)


def read_picture(view: memoryview, fmt: MediaFormat, bounds: PictureBounds) -> Picture:
    """Read a picture of format ``fmt``, as detected by `sniff`.

    Nothing is decoded; time and memory are linear in the length. The original is rarely longer than ``view`` (by a few
    dozen bytes at most). A file that was cut short inside its picture data stays cut short there, so that a decoder
    treats the original like the upload.

    Raises `Rejected`: CORRUPT for a structure that no decoder can follow, UNSUPPORTED_TYPE for features that are not on
    the list, and the reasons of `Picture.check`.
    """
    if not view:
        raise Rejected(Reason.EMPTY, "no bytes")
    picture = _PICTURES[fmt].read(view)
    picture.check(bounds)
    return picture


def plan_movie(
    file: SparseFile, fmt: MediaFormat, *, poster_seconds: float = POSTER_SECONDS, bounds: VideoBounds | None = None
) -> MoviePlan:
    """Plan poster and scrub of a video whose content is of ``fmt``, from its container's structure alone.

    Raises `Missing` if more of the file is needed: fetch that and call again. Raises `Rejected` if the file is at
    fault: corrupt, no_video, external_reference, unsupported_type, bad_dimensions, bad_aspect, too_many_pixels,
    too_long, too_large, decoder_limit. Hostile files raise nothing else; time and memory are bounded by ``bounds``.
    """
    return _MOVIES[fmt].plan(file, fmt, poster_seconds=poster_seconds, bounds=bounds or VideoBounds())
