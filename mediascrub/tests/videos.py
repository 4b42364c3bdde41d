"""Videos to examine, a store that hands out ranges of them, and what ffmpeg and exiftool say of the outcome."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mediascrub import Format, ScrubError, plan_movie
from mediascrub.bounds import VideoBounds
from mediascrub.movie import MoviePlan
from mediascrub.ranges import Patch, Range, pieces
from mediascrub.sparse import Missing, SparseFile

DATA = Path(__file__).parent / "data"
_TIMEOUT_S = 120
_ROUND_BYTES = 64 << 10
_MAX_ROUNDS = 64
_made: dict[tuple[str, ...], bytes] = {}


def ffmpeg(*arguments: str | Path, cwd: Path | None = None) -> bytes:
    """Run ffmpeg; its standard output."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S, cwd=cwd).stdout


def make(path: Path, *options: str | Path) -> Path:
    """Let ffmpeg write a file; for the next test that asks for the same, it is written from memory."""
    key = (path.suffix, *map(str, options))
    if key not in _made:
        ffmpeg(*options, path)
        _made[key] = path.read_bytes()
    path.write_bytes(_made[key])
    return path


def format_of(path: Path) -> Format:
    """By the file's name, which is right in these tests."""
    return Format(path.suffix[1:])


def examine(path: Path, bounds: VideoBounds | None = None, poster_s: float = 5.0) -> MoviePlan:
    """Examine a file that is all there."""
    with path.open("rb") as file:
        sparse = SparseFile(file.fileno(), path.stat().st_size)
        return plan_movie(sparse, format_of(path), poster_s=poster_s, bounds=bounds)


def shown_size(path: Path) -> tuple[int, int]:
    """The size that is held against the bounds, as a refusal tells it: as displayed, but for a turn."""
    with pytest.raises(ScrubError, match="shown as") as caught:
        examine(path, VideoBounds(max_aspect=0))
    width, height = re.findall(r"shown as ([0-9]+) x ([0-9]+)", str(caught.value))[0]
    return int(width), int(height)


def examine_bytes(data: bytes, fmt: Format, bounds: VideoBounds | None = None) -> MoviePlan:
    """Examine a file of these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return plan_movie(SparseFile(file.fileno(), len(data)), fmt, bounds=bounds)


def apply_patches(patches: Sequence[Patch], data: bytes) -> bytes:
    """The scrubbed file, given the original."""
    scrubbed = bytearray(data)
    for offset, new in pieces(patches):
        scrubbed[offset : offset + len(new)] = new
    return bytes(scrubbed)


def scrub(path: Path, target: Path) -> MoviePlan:
    """Write the scrubbed file to ``target``."""
    plan = examine(path)
    target.write_bytes(apply_patches(plan.patches, path.read_bytes()))
    return plan


class Store:
    """Plays the object store and the service: fetches what is missing, rounded to 64 KiB, into a sparse file."""

    def __init__(self, source: Path, fd: int) -> None:
        self.size_bytes = source.stat().st_size
        self.present: list[Range] = []
        self.rounds = 0
        self.fd = fd
        self._source = source
        os.truncate(fd, self.size_bytes)

    @property
    def fetched_bytes(self) -> int:
        return sum(length for _, length in self.present)

    def fetch(self, ranges: Sequence[Sequence[int]]) -> None:
        with self._source.open("rb") as source:
            for offset, length in ranges:
                start = offset // _ROUND_BYTES * _ROUND_BYTES
                end = min(-(-(offset + length) // _ROUND_BYTES) * _ROUND_BYTES, self.size_bytes)
                source.seek(start)
                os.pwrite(self.fd, source.read(end - start), start)
                self.present.append(Range(start, end - start))

    def examine(self, fmt: Format) -> MoviePlan:
        """Plan until nothing is missing."""
        for _ in range(_MAX_ROUNDS):
            self.rounds += 1
            try:
                return plan_movie(SparseFile(self.fd, self.size_bytes, self.present), fmt)
            except Missing as missing:
                wanted = missing.ranges
            assert wanted, "asked for nothing"
            self.fetch(wanted)
        raise AssertionError("no end of questions")


@contextmanager
def store_of(source: Path) -> Iterator[Store]:
    """A store with that one object."""
    with tempfile.TemporaryFile(dir=source.parent) as file:
        yield Store(source, file.fileno())


def sparse_copy(source: Path, target: Path, ranges: Sequence[Range]) -> None:
    """Only these ranges of the file, and holes between them."""
    with source.open("rb") as original, target.open("wb") as sparse:
        sparse.truncate(source.stat().st_size)
        for each in ranges:
            original.seek(each.offset)
            os.pwrite(sparse.fileno(), original.read(each.length), each.offset)


class Frame(NamedTuple):
    """One decoded frame of video or sound; tracks are counted without those that are none, such as a cover."""

    track: int
    time: int | None
    digest: bytes


def frames(path: Path) -> list[Frame]:
    """What libav decodes of each track, as far as the file decodes. A process of ffmpeg would take longer to start."""
    found: list[Frame] = []
    with suppress(av.FFmpegError), av.open(str(path)) as container:
        videos = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
        for video in videos:
            video.thread_count = 1  # of VP8, two threads decode one frame in a hundred differently
        tracks = {stream.index: track for track, stream in enumerate((*videos, *container.streams.audio))}
        for packet in container.demux([container.streams[index] for index in tracks]):
            with suppress(av.FFmpegError):
                for frame in packet.decode():
                    assert isinstance(frame, AudioFrame | VideoFrame)
                    found.append(Frame(tracks[packet.stream_index], frame.pts, _digest(frame)))
    return sorted(found, key=lambda frame: frame.track)


def first_frames(path: Path, plan: MoviePlan, count: int) -> list[bytes]:
    """The first frames of the plan's video track, as libav decodes them without reading ahead."""
    options = {"probesize": "32", "analyzeduration": "0"}
    with av.open(str(path), options=options) as container:
        kind, _, number = plan.stream.partition(":")
        videos = container.streams.video
        stream = videos[int(number)] if kind == "V" else next(each for each in videos if each.id == int(number))
        stream.thread_count = 1
        return [_digest(frame) for frame in islice(_frames(container, stream, plan.poster_s), count)]


def _digest(frame: AudioFrame | VideoFrame) -> bytes:
    return hashlib.sha256(frame.to_ndarray().tobytes()).digest()


def _frames(container: InputContainer, stream: VideoStream, seconds: float) -> Iterator[VideoFrame]:
    """The frames of the first seconds. What follows can be a hole."""
    end: float | None = None
    with suppress(av.FFmpegError):
        for packet in container.demux(stream):
            ticks = packet.pts if packet.dts is None else packet.dts
            if ticks is not None:
                at = float(ticks * packet.time_base)
                end = max(0.0, at) + seconds if end is None else end
                if at >= end:
                    break
            if packet.size:
                yield from packet.decode()
    yield from stream.decode(None)


def probe(path: Path) -> dict[str, Any]:
    """What ffprobe tells: format, streams, chapters."""
    command = ["ffprobe", "-v", "quiet", "-show_format", "-show_streams", "-show_chapters", "-of", "json", str(path)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return answer


def exiftool(*paths: Path) -> list[dict[str, Any]]:
    """What exiftool finds, timed metadata and unknown tags included, keyed ``group:tag``."""
    tool = _exiftool()
    assert tool.stdin is not None
    assert tool.stdout is not None
    tool.stdin.write("\n".join(["-json", "-ee3", "-G1", "-a", "-U", *map(str, paths), "-execute\n"]))
    tool.stdin.flush()
    answer: list[dict[str, Any]] = json.loads("".join(iter(tool.stdout.readline, "{ready}\n")))
    return answer


@cache
def _exiftool() -> subprocess.Popen[str]:
    """One for all questions of a test process: it takes longer to start than to answer."""
    command = ["exiftool", "-stay_open", "True", "-@", "-"]
    tool = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(tool.communicate, "-stay_open\nFalse\n")
    return tool
