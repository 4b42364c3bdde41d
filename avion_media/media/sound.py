"""The job that makes the waveform of sound. It runs inside the sandbox."""

from __future__ import annotations

from typing import Any

from avion_media.media.pictures import drawing_options, write_thumbnails
from mediascrub import Format
from mediathumbs.waveform import make_waveform


def sound_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Run `make_waveform` with plain values.

    Arguments: format (name), max_duration_s, and sizes, quality and webp of `picture_job`. Files: the sound, and
    thumbnails as for `picture_job`. Returns duration_s, and waveform: the peaks in hex.
    """
    source, *thumbnail_files = files
    options = drawing_options(arguments)
    made = make_waveform(source, Format(arguments["format"]), **options, max_duration_s=arguments["max_duration_s"])
    write_thumbnails(made.thumbnails, options["sizes"], thumbnail_files)
    return {"duration_s": made.duration_s, "waveform": made.peaks.hex()}
