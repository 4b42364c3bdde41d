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
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from avion_media.backends.store.patch_plan import patched
from avion_media.common.formats import BY_EXTENSION, BY_NAME
from avion_media.media.plans import plan_from_json, plan_job
from avion_media.media.poster import Video
from mediascrub import Format, ScrubError, plan_movie
from mediascrub.bounds import VideoBounds
from mediascrub.movie import POSTER_SECONDS, MoviePlan
from mediascrub.ranges import Patch, Range
from mediascrub.sparse import SparseFile

DATA = Path(__file__).parents[2] / "data"
_TIMEOUT_S = 120
_ROUND_BYTES = 64 << 10
_MAX_ROUNDS = 64


def ffmpeg(*arguments: str | Path, cwd: Path | None = None) -> bytes:
    """Run ffmpeg; its standard output."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S, cwd=cwd).stdout


def format_of(path: Path) -> Format:
    """By the file's name, which is right in these tests."""
    return Format(BY_EXTENSION[path.suffix[1:]].name)


def examine(path: Path, bounds: VideoBounds | None = None, poster_seconds: float = 5.0) -> MoviePlan:
    """Examine a file that is all there."""
    with path.open("rb") as file:
        sparse = SparseFile(file.fileno(), path.stat().st_size)
        return plan_movie(sparse, format_of(path), poster_seconds=poster_seconds, bounds=bounds)


def shown_size(path: Path) -> tuple[int, int]:
    """The size that is held against the bounds, as a refusal tells it: as displayed, but for a turn."""
    with pytest.raises(ScrubError, match="shown as") as caught:
        examine(path, VideoBounds(max_aspect=0))
    width, height = re.findall(r"shown as ([0-9]+) x ([0-9]+)", str(caught.value))[0]
    return int(width), int(height)


def examine_bytes(data: bytes, fmt: Format) -> MoviePlan:
    """Examine a file of these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return plan_movie(SparseFile(file.fileno(), len(data)), fmt)


def apply_patches(patches: Sequence[Patch], data: bytes) -> bytes:
    """The scrubbed file, given the original."""
    return patched(data, 0, [(each.offset, each.data or bytes(each.length)) for each in patches])


def scrub(path: Path, target: Path) -> MoviePlan:
    """Write the scrubbed file to ``target``."""
    plan = examine(path)
    target.write_bytes(apply_patches(plan.patches, path.read_bytes()))
    return plan


class Store:
    """Plays the object store and the service: fetches what is missing, rounded to 64 KiB, into a sparse file."""

    def __init__(self, source: Path, fd: int) -> None:
        self.size_bytes = source.stat().st_size
        self.present: list[list[int]] = []
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
                self.present.append([start, end - start])

    def examine(self, fmt: Format, **arguments: object) -> MoviePlan:
        """Run the job until it has a plan."""
        given: dict[str, object] = {"size_bytes": self.size_bytes, "format": fmt.value, "max_plan_bytes": 1 << 20}
        given |= {"bounds": {}, "poster_seconds": POSTER_SECONDS} | arguments
        for _ in range(_MAX_ROUNDS):
            self.rounds += 1
            with tempfile.TemporaryFile() as written:
                files = [self.fd, written.fileno()]
                answer = json.loads(json.dumps(plan_job(given | {"present": self.present}, files)))
                if "plan_bytes" in answer:
                    return plan_from_json(json.loads(os.pread(written.fileno(), answer["plan_bytes"], 0)))
            assert answer["missing"], "asked for nothing"
            self.fetch(answer["missing"])
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


def frames(path: Path, *options: str) -> list[str]:
    """An MD5 for each decoded frame of video and sound, as far as the file decodes."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", str(path), "-map", "0:v", "-map", "0:a?", *options]
    command += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
    answer = subprocess.run(command, check=False, capture_output=True, timeout=_TIMEOUT_S).stdout.decode()
    return [line for line in answer.splitlines() if not line.startswith("#")]


def first_frames(path: Path, fmt: Format, plan: MoviePlan, count: int) -> list[str]:
    """The MD5s of the first frames of the plan's video track, as the poster's job decodes them."""
    with path.open("rb") as file:
        video = Video(file.fileno(), BY_NAME[fmt.value], plan.stream, VideoBounds())
        first = islice(video.frames(plan.poster_seconds), count)
        return [hashlib.md5(frame.to_ndarray().tobytes()).hexdigest() for frame in first]


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
