"""What a video is, by ffprobe in the cage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import MediaFormat
from avion_media.media.cage import Cage, read_only
from avion_media.media.poster.bounds import PosterBounds
from avion_media.media.poster.ffmpeg_input import CODECS, DECODERS, INPUT_FD, URL, complaint, input_options
from avion_media.media.poster.geometry import UPRIGHT, Orientation, displayed_size, orientation_of, sample_aspect

_MAX_SIDE: Final = 1 << 16
_MAX_ANSWER_BYTES: Final = 256 << 10
_STREAM: Final = (
    "stream=index,codec_type,codec_name,width,height,sample_aspect_ratio,pix_fmt,duration,"
    "color_range,color_space,color_transfer,color_primaries"
)
_ENTRIES: Final = f"{_STREAM}:stream_disposition=default,attached_pic:stream_side_data=displaymatrix:format=duration"


@dataclass(frozen=True, slots=True)
class VideoProbe:
    """The video stream that a player would show.

    ``width`` and ``height`` are as displayed, ``coded_width`` and ``coded_height`` as decoded. Colour properties are in
    ffmpeg's words, empty when the video does not say. ``duration_s`` is 0.0 when unknown.
    """

    stream_index: int
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    orientation: Orientation
    sample_aspect: Fraction
    duration_s: float
    pix_fmt: str = ""
    color_range: str = ""
    matrix: str = ""
    transfer: str = ""
    primaries: str = ""

    @property
    def coded_pixels(self) -> int:
        """Pixels of one coded frame."""
        return self.coded_width * self.coded_height

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which the coded picture is turned for display."""
        return self.orientation.degrees


async def probe_video(cage: Cage, fd: int, fmt: MediaFormat, bounds: PosterBounds | None = None) -> VideoProbe:
    """Probe the seekable file ``fd`` (may be sparse: index and first seconds suffice) whose content is of ``fmt``.

    Raises `Rejected`: NO_VIDEO (attached pictures do not count), TOO_MANY_PIXELS, BAD_DIMENSIONS, UNSUPPORTED_TYPE
    (codec), CORRUPT, or what the cage rejects; and `Unavailable`. A cancel leaves nothing running. ``fd`` is not moved.
    """
    bounds = bounds or PosterBounds()
    options = input_options(fmt)
    # Only the video's decoders are listed: ffprobe fails on any stream whose decoder is not, and a video is not to be
    # refused for its sound. So sound decoders get opened here, in the cage (and never in `extract_poster`).
    options["codec_whitelist:v"] = DECODERS
    argv = ["ffprobe", "-v", "error", "-of", "json", "-show_entries", _ENTRIES]
    argv += [word for name, value in options.items() for word in (f"-{name}", str(value))]
    with read_only(fd) as source:
        done = await cage.execute(
            [*argv, "-i", URL],
            files={INPUT_FD: source},
            limits=bounds.for_probe(),
            max_stdout_bytes=_MAX_ANSWER_BYTES,
        )
    if done.returncode != 0 and b"not on whitelist" in done.stderr:
        raise Rejected(Reason.UNSUPPORTED_TYPE, done.stderr.decode(errors="replace")[:300])
    if done.returncode != 0:
        raise complaint(done.stderr)
    probe = read_probe(done.stdout)
    _check(probe, bounds)
    return probe


def read_probe(answer: bytes) -> VideoProbe:
    """Read ffprobe's JSON, believing nothing. Raises `Rejected` (NO_VIDEO, CORRUPT)."""
    try:
        found = json.loads(answer)
        videos = [each for each in found["streams"] if _is_video(each)]
        if not videos:
            raise Rejected(Reason.NO_VIDEO, "no stream is a video")
        stream = next((each for each in videos if each["disposition"].get("default")), videos[0])
        return _read_stream(stream, found.get("format", {}))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise Rejected(Reason.CORRUPT, f"unreadable probe: {error!r}") from None


def _is_video(stream: Mapping[str, Any]) -> bool:
    return stream.get("codec_type") == "video" and not stream["disposition"].get("attached_pic")


def _read_stream(stream: Mapping[str, Any], container: Mapping[str, Any]) -> VideoProbe:
    coded_width, coded_height = int(stream.get("width", 0)), int(stream.get("height", 0))
    orientation = _orientation(stream)
    aspect = sample_aspect(stream.get("sample_aspect_ratio"))
    width, height = displayed_size(coded_width, coded_height, aspect, orientation)
    return VideoProbe(
        stream_index=int(stream["index"]),
        codec=str(stream.get("codec_name", "")),
        width=width,
        height=height,
        coded_width=coded_width,
        coded_height=coded_height,
        orientation=orientation,
        sample_aspect=aspect,
        duration_s=_seconds(container.get("duration")) or _seconds(stream.get("duration")),
        pix_fmt=_word(stream, "pix_fmt"),
        color_range=_word(stream, "color_range"),
        matrix=_word(stream, "color_space"),
        transfer=_word(stream, "color_transfer"),
        primaries=_word(stream, "color_primaries"),
    )


def _orientation(stream: Mapping[str, Any]) -> Orientation:
    """From side data such as ``\\n00000000: 0 65536 0\\n00000001: …``: three rows of three after their offsets."""
    for side_data in stream.get("side_data_list", []):
        rows = [line.partition(":")[2].split() for line in str(side_data.get("displaymatrix", "")).split("\n")]
        numbers = [int(number) for row in rows for number in row]
        if len(numbers) == 9:
            return orientation_of(numbers)
    return UPRIGHT


def _seconds(text: Any) -> float:
    seconds = float(text or 0.0)
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _word(stream: Mapping[str, Any], key: str) -> str:
    word = str(stream.get(key, ""))
    return "" if word in {"unknown", "unspecified", "reserved"} else word


def _check(probe: VideoProbe, bounds: PosterBounds) -> None:
    if probe.codec not in CODECS:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"video codec {probe.codec[:32]!r}")
    sides = probe.coded_width, probe.coded_height, probe.width, probe.height
    if not all(0 < side <= _MAX_SIDE for side in sides):
        raise Rejected(Reason.BAD_DIMENSIONS, f"{probe.coded_width}x{probe.coded_height}")
    if probe.coded_pixels > bounds.max_pixels:
        raise Rejected(Reason.TOO_MANY_PIXELS, f"{probe.coded_width}x{probe.coded_height}")
