"""Whole videos to posters: libav's demuxers and decoders, without the sandbox around them."""

from __future__ import annotations

import os
from dataclasses import asdict

from avion_media.media.jobs import poster_job
from mediascrub import ScrubError, VideoBounds
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import VIDEO_FORMATS, labelled, videos

_ARGUMENTS = {
    "stream": "V:0",
    "scan_s": 2.0,
    "key_frame": None,
    "bounds": asdict(VideoBounds(max_pixels=1_000_000)),
    "sizes": [["only", 64]],
    "quality": 80,
    "webp": "off",
    "granted_bytes": 1 << 30,
    "max_memory_bytes": 1 << 30,
}


def _feed(data: bytes) -> None:
    fmt, content = labelled(data, VIDEO_FORMATS)
    video, thumbnail = os.memfd_create("video"), os.memfd_create("thumbnail")
    try:
        os.write(video, content)
        poster_job(_ARGUMENTS | {"format": fmt.value}, [video, thumbnail, thumbnail])
    finally:
        os.close(video)
        os.close(thumbnail)


TARGET = parser_target("video-posters", videos, _feed, allowed=(ScrubError, MemoryError), max_cpu_s=10.0)
