"""Whole audio files to waveforms: libav's demuxers and decoders, without the sandbox around them."""

from __future__ import annotations

import os

import av.logging

from avion_media.media.jobs import sound_job
from mediascrub import ScrubError
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import AUDIO_FORMATS, audio, labelled

_ARGUMENTS = {"max_duration_s": 60.0, "sizes": [["only", 64]], "quality": 80, "webp": "off"}


def _feed(data: bytes) -> None:
    fmt, content = labelled(data, AUDIO_FORMATS)
    sound, thumbnail = os.memfd_create("sound"), os.memfd_create("thumbnail")
    try:
        os.write(sound, content)
        with av.logging.Capture():  # else it prints each damage
            found = sound_job(_ARGUMENTS | {"format": fmt.value}, [sound, thumbnail, thumbnail])
        assert len(found["waveform"]) == 200, "a waveform of another length"
        assert 0 < found["duration_s"] <= 60, "a length beyond the limit"
    finally:
        os.close(sound)
        os.close(thumbnail)


TARGET = parser_target("audio-waveforms", audio, _feed, allowed=(ScrubError, MemoryError), max_cpu_s=10.0)
