"""Posters: one frame of an untrusted video, as it would be displayed, made by ffmpeg in the sandbox.

`probe.probe_video` returns the facts of ffprobe, `frame.extract_poster` writes the first frame that is not blank as raw
RGB, and `frame.colour_of` returns its colours. The frame is rotated later, with its thumbnails.

This module has what every run of ffmpeg and ffprobe needs. They get the video as one seekable descriptor, of a given
format, with limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import MKV, MOV, MP4, WEBM, MediaFormat
from avion_media.media.bounds import VideoBounds
from avion_media.media.sandbox import Limits

INPUT_FD: Final = 3
URL: Final = "fd:"
# By the names of decoders (libdav1d is AV1): the codecs of phones, browsers and cameras.
DECODERS: Final = "h264,hevc,libdav1d,av1,vp8,vp9,mpeg4,h263,mjpeg,prores"
CODECS: Final = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "h263", "mjpeg", "prores"})
# The codecs of their sound. Sound is never decoded, but ffprobe opens a decoder for each stream; see `probe`.
SOUND_DECODERS: Final = (
    "aac,alac,mp3float,mp3,mp2float,mp2,opus,vorbis,flac,ac3,eac3,amrnb,amrwb,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
    "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_alaw,pcm_mulaw"
)

_DEMUXERS: Final = {MP4: "mov", MOV: "mov", WEBM: "matroska", MKV: "matroska"}
_MAX_DETAIL: Final = 300
_OUT_OF_MEMORY: Final = (
    b"Cannot allocate memory",
    b"pthread_create() failed",
    b"failed to map segment",
    b"std::bad_alloc",
)


@dataclass(frozen=True, slots=True)
class PosterBounds:
    """Limits of a poster.

    ``run`` limits each run of ffmpeg and ffprobe, of which there are at least two. ``video`` limits the picture, and is
    checked before any is decoded. ``scan_s`` is how many seconds of video are searched for a frame that is not blank.
    """

    run: Limits
    video: VideoBounds = field(default_factory=VideoBounds)
    scan_s: float = 10.0


def input_options(fmt: MediaFormat) -> dict[str, str | int]:
    """Return the options before ``-i fd:``. They force the demuxer of ``fmt``, which was detected by content."""
    demuxer = _DEMUXERS[fmt]
    options: dict[str, str | int] = {
        "protocol_whitelist": "fd,pipe",
        "format_whitelist": demuxer,
        "f": demuxer,
        "fd": INPUT_FD,
        "threads": 1,  # each thread of a decoder has frames of its own, and one frame gains nothing from threads
    }
    if demuxer == "mov":
        options["enable_drefs"] = 0  # never follow a track to another file (also the default)
    return options


def complaint(stderr: bytes) -> Rejected:
    """Return why there is no picture: the first message about the video. Messages about sound do not matter."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if "not on whitelist" not in line]
    detail = "\n".join(lines)[:_MAX_DETAIL]
    if any(each in stderr for each in _OUT_OF_MEMORY):
        return Rejected(Reason.DECODER_LIMIT, detail)
    return Rejected(Reason.CORRUPT, detail or "no frame decodes")
