"""How ffmpeg and ffprobe are given a stranger's video: one seekable descriptor, and nothing to choose."""

from __future__ import annotations

from typing import Final

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import MKV, MOV, MP4, WEBM, MediaFormat

INPUT_FD: Final = 3
URL: Final = "fd:"
# By the names of decoders (libdav1d is AV1). What phones, browsers and cameras make; nothing exotic.
DECODERS: Final = "h264,hevc,libdav1d,av1,vp8,vp9,mpeg4,h263,mjpeg,prores"
CODECS: Final = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "h263", "mjpeg", "prores"})
# What their sound is coded with. None of it is ever decoded, but ffprobe opens a decoder for each stream; see `probe`.
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


def input_options(fmt: MediaFormat) -> dict[str, str | int]:
    """Options before ``-i fd:``. The demuxer is forced to that of ``fmt``, which is by content, not by name."""
    demuxer = _DEMUXERS[fmt]
    options: dict[str, str | int] = {
        "protocol_whitelist": "fd,pipe",
        "format_whitelist": demuxer,
        "f": demuxer,
        "fd": INPUT_FD,
        "threads": 1,  # every thread of a decoder holds frames of its own, and one frame gains nothing from threads
    }
    if demuxer == "mov":
        options["enable_drefs"] = 0  # never follow a track to another file (also the default)
    return options


def complaint(stderr: bytes) -> Rejected:
    """Why there is no picture, by what the program said first (about the video: sound is refused a decoder anyway)."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if "not on whitelist" not in line]
    detail = "\n".join(lines)[:_MAX_DETAIL]
    if any(each in stderr for each in _OUT_OF_MEMORY):
        return Rejected(Reason.DECODER_LIMIT, detail)
    return Rejected(Reason.CORRUPT, detail or "no frame decodes")
