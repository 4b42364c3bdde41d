"""The facts of a video, by ffprobe in the sandbox.

ffprobe opens a decoder for each stream of the file, and fails on the first one that is not on the list. So a file with
other sound or subtitles is probed twice: the second time as a copy of its video alone. ffmpeg makes the copy, because
it skips streams whose decoders are not on the list.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import MediaFormat
from avion_media.files import read_only
from avion_media.media.bounds import shown_size
from avion_media.media.formats.picture import UPRIGHT, turned_size
from avion_media.media.poster import (
    CODECS,
    DECODERS,
    INPUT_FD,
    SOUND_DECODERS,
    URL,
    PosterBounds,
    complaint,
    input_options,
)
from avion_media.media.sandbox import Completed
from avion_media.media.sandbox.sandbox import Sandbox

_MAX_ANSWER_BYTES: Final = 256 << 10
_MEMORY_BYTES: Final = 256 << 20  # an 8K HEVC takes 60 MiB, and an index of 256 MiB of fragments a little more
_COPY_BYTES: Final = 64 << 20  # the first frame of each video; one of 8K ProRes is 20 MiB
_COPY_FD: Final = 4
# Not every muxer accepts VP8, VP9, AV1 and so on. These do, and keep rotation, pixel aspect and colours.
_COPY_MUXERS: Final = {"mov": ("mp4", "mov"), "matroska": ("matroska",)}
_STREAM: Final = (
    "stream=codec_type,codec_name,width,height,sample_aspect_ratio,pix_fmt,field_order,"
    "color_space,color_transfer,color_primaries"
)
_ENTRIES: Final = f"{_STREAM}:stream_disposition=attached_pic:stream_side_data=displaymatrix"
_SQUARE: Final = Fraction(1)
_WITHOUT_A_TURN: Final = {(True, True): UPRIGHT, (False, True): 2, (False, False): 3, (True, False): 4}
_WITH_A_TURN: Final = {(True, True): 5, (True, False): 6, (False, False): 7, (False, True): 8}
_INTERLACED: Final = ("tt", "bb", "tb", "bt")


@dataclass(frozen=True, slots=True)
class VideoProbe:
    """One video stream: ``stream`` is its name for ffmpeg (a stream specifier).

    ``width`` and ``height`` are as displayed, ``coded_width`` and ``coded_height`` as decoded; ``orientation`` is in
    Exif's numbering. Colour properties are in ffmpeg's words; empty if the video does not state them.
    """

    stream: str
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    orientation: int
    sample_aspect: Fraction
    pix_fmt: str = ""
    matrix: str = ""
    transfer: str = ""
    primaries: str = ""
    interlaced: bool = False

    @property
    def coded_pixels(self) -> int:
        """Pixels of one coded frame."""
        return self.coded_width * self.coded_height


async def probe_video(
    sandbox: Sandbox, fd: int, fmt: MediaFormat, bounds: PosterBounds, stream: str = "V:0"
) -> VideoProbe:
    """Probe the ``stream`` of the seekable file ``fd`` of ``fmt``. A sparse file needs its index and first seconds.

    Raises `Rejected`: NO_VIDEO (attached pictures do not count), the reasons of `Bounds.check_size`, UNSUPPORTED_TYPE
    (codec), CORRUPT, and the reasons of the sandbox; and `Unavailable`. After a cancel nothing runs. The offset of
    ``fd`` does not change.
    """
    with read_only(fd) as source:
        first = done = await _ffprobe(sandbox, source, fmt, stream, bounds)
        refused = done.returncode != 0 and b"not on whitelist" in done.stderr
        if refused:
            done = await _ffprobe_video_alone(sandbox, source, fmt, stream, bounds)
    if refused and b"matches no streams" in done.stderr:
        raise Rejected(Reason.NO_VIDEO, "no stream is a video")
    if done.returncode != 0:
        rejection = complaint(done.stderr)
        if refused and rejection.reason is Reason.CORRUPT:  # so the decoder of the video was refused
            rejection = Rejected(Reason.UNSUPPORTED_TYPE, first.stderr.decode(errors="replace")[:300])
        raise rejection
    probe = read_probe(done.stdout, stream)
    if probe.codec not in CODECS:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"video codec {probe.codec[:32]!r}")
    bounds.video.check_size(probe.coded_width, probe.coded_height, probe.sample_aspect)
    return probe


async def _ffprobe(sandbox: Sandbox, source: int, fmt: MediaFormat, stream: str, bounds: PosterBounds) -> Completed:
    options = input_options(fmt) | {"codec_whitelist": f"{DECODERS},{SOUND_DECODERS}"}
    entries = ["-select_streams", stream, "-show_entries", _ENTRIES]
    argv = ["ffprobe", "-v", "error", "-of", "json", *entries, *_words(options), "-i", URL]
    limits = bounds.run.for_task(_MEMORY_BYTES, output_bytes=0)
    return await sandbox.execute(argv, files={INPUT_FD: source}, limits=limits, max_stdout_bytes=_MAX_ANSWER_BYTES)


async def _ffprobe_video_alone(
    sandbox: Sandbox, source: int, fmt: MediaFormat, stream: str, bounds: PosterBounds
) -> Completed:
    """Return ffprobe's output about the first frame of the video, or ffmpeg's if it cannot copy that frame."""
    options = input_options(fmt) | {"codec_whitelist": DECODERS, "t": 1}
    argv = ["ffmpeg", "-nostdin", "-v", "error", *_words(options), "-i", URL, "-map", f"0:{stream}", "-c", "copy"]
    for muxer in _COPY_MUXERS[str(options["f"])]:
        copy = os.memfd_create("video")
        try:
            os.lseek(source, 0, os.SEEK_SET)
            done = await sandbox.execute(
                [*argv, "-frames:v", "1", "-f", muxer, "-fd", str(_COPY_FD), URL],
                files={INPUT_FD: source, _COPY_FD: copy},
                limits=bounds.run.for_task(_MEMORY_BYTES, _COPY_BYTES),
                max_stdout_bytes=0,
            )
            if done.returncode == 0:
                with read_only(copy) as video:
                    return await _ffprobe(sandbox, video, fmt, "V:0", bounds)
        finally:
            os.close(copy)
    return done


def _words(options: Mapping[str, str | int]) -> list[str]:
    return [word for name, value in options.items() for word in (f"-{name}", str(value))]


def read_probe(answer: bytes, stream: str = "V:0") -> VideoProbe:
    """Read ffprobe's JSON, which is not trusted. Raises `Rejected` (NO_VIDEO, CORRUPT)."""
    try:
        found = json.loads(answer)
        video = next((each for each in found["streams"] if _is_video(each)), None)
        if video is None:
            raise Rejected(Reason.NO_VIDEO, f"{stream} is no video")
        return _read_stream(video, stream)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise Rejected(Reason.CORRUPT, f"unreadable probe: {error!r}") from None


def _is_video(stream: Mapping[str, Any]) -> bool:
    return stream.get("codec_type") == "video" and not stream["disposition"].get("attached_pic")


def _read_stream(found: Mapping[str, Any], stream: str) -> VideoProbe:
    coded_width, coded_height = int(found.get("width", 0)), int(found.get("height", 0))
    orientation = _orientation(found)
    aspect = sample_aspect(found.get("sample_aspect_ratio"))
    width, height = displayed_size(coded_width, coded_height, aspect, orientation)
    return VideoProbe(
        stream=stream,
        codec=str(found.get("codec_name", "")),
        width=width,
        height=height,
        coded_width=coded_width,
        coded_height=coded_height,
        orientation=orientation,
        sample_aspect=aspect,
        pix_fmt=_word(found, "pix_fmt"),
        matrix=_word(found, "color_space"),
        transfer=_word(found, "color_transfer"),
        primaries=_word(found, "color_primaries"),
        interlaced=found.get("field_order") in _INTERLACED,
    )


def _orientation(stream: Mapping[str, Any]) -> int:
    """Read the display matrix in side data, such as ``\\n00000000: 0 65536 0\\n00000001: …``: offset, then a row."""
    for side_data in stream.get("side_data_list", []):
        rows = [line.partition(":")[2].split() for line in str(side_data.get("displaymatrix", "")).split("\n")]
        numbers = [int(number) for row in rows for number in row]
        if len(numbers) == 9:
            return orientation_of(numbers)
    return UPRIGHT


def _word(stream: Mapping[str, Any], key: str) -> str:
    word = str(stream.get(key, ""))
    return "" if word in {"unknown", "unspecified", "reserved"} else word


# --- from coded pixels to the picture as displayed: display matrix and pixel aspect, each applied once ------------


def orientation_of(matrix: Sequence[int]) -> int:
    """Return the orientation (as in Exif) of a display matrix, which is nine numbers, row by row.

    Rotations are rounded to multiples of 90 degrees, as in players. A degenerate matrix means upright.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a * d - b * c == 0:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):  # x' = ax, y' = dy
        return _WITHOUT_A_TURN[a > 0, d > 0]
    return _WITH_A_TURN[b > 0, c > 0]  # x' = cy, y' = bx


def sample_aspect(text: str | None) -> Fraction:
    """Return the sample aspect ratio that ffprobe writes as ``64:45``; square if unknown."""
    width, separator, height = (text or "").partition(":")
    if not (separator and width.isdigit() and height.isdigit()) or int(width) == 0 or int(height) == 0:
        return _SQUARE
    return Fraction(int(width), int(height))


def displayed_size(width: int, height: int, aspect: Fraction, orientation: int) -> tuple[int, int]:
    """Return width and height of the picture as displayed. Pixels become square by a change of the width."""
    return turned_size(shown_size(width, height, aspect), orientation)
