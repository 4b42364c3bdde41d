"""A hijacked decoder answers whatever it likes: what cannot be true is a crash of the decoder, and goes no further."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import JPEG, MOV, MP4, MediaFormat
from avion_media.common.media import CredentialsState
from avion_media.media.job_results import checked_poster
from avion_media.media.pipeline import MediaPipeline, Processed
from avion_media.media.plans import plan_to_json
from avion_media.media.sandbox import Sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub.bounds import VideoBounds
from mediascrub.credentials import CREDENTIALS_TYPE
from mediascrub.ranges import Range
from mediascrub.tests.videos import DATA, examine

VIDEO = DATA / "mp4-h264-udta-xyz-location.mp4"
ORIGINAL = b"scrubbed"
JPEG_START = b"\xff\xd8\xff"
TRUE = {
    "width": 40,
    "height": 30,
    "animated": False,
    "duration_s": 0.0,
    "blurhash": "LEHV6nWB2yk8pyo0adR*.7kCMdnj",
    "scrubbed_bytes": len(ORIGINAL),
    "sha256": "0f" * 32,
    "credentials": "",
    "digital_source_type": "",
    "claim_generator": "",
}


class _Source:
    """A file that is all there, and remembers what was asked for."""

    def __init__(self, path: Path, files: ExitStack) -> None:
        self.fd = files.enter_context(path.open("rb")).fileno()
        self.size_bytes = path.stat().st_size
        self.whole = False
        self.present: list[Range] = []
        self.asked: list[Range] = []

    async def fetch(self, ranges: Sequence[Range]) -> None:
        self.asked += ranges
        raise InterruptedError("as far as this test goes")


class _Hijacked:
    """A sandbox whose only process answers ``answer``, and writes ``written`` to its files from the second one on."""

    def __init__(self, answer: Any, written: Sequence[bytes]) -> None:
        self._answer = answer
        self._written = written

    async def call(self, job: str, arguments: object, *, files: Sequence[int], limits: object) -> Any:
        for fd, data in zip(files[1:], self._written, strict=False):
            os.pwrite(fd, data, 0)
        return json.loads(json.dumps(self._answer))


async def _process(
    answer: Any,
    written: bytes,
    fmt: MediaFormat,
    asked: list[Range] | None = None,
    thumbnails: Sequence[bytes] = (JPEG_START,) * 3,
    manifest: bytes = b"",
) -> Processed:
    sandbox = cast("Sandbox", _Hijacked(answer, (written, manifest, *thumbnails)))
    pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), SandboxConfig())
    with ExitStack() as files:
        source = _Source(VIDEO, files)
        source.asked = source.asked if asked is None else asked
        return await pipeline.process(source, fmt, files)


async def _refusal(answer: Any, written: bytes, fmt: MediaFormat) -> Reason:
    asked: list[Range] = []
    with pytest.raises(Rejected) as caught:
        await _process(answer, written, fmt, asked)
    assert asked == []
    return caught.value.reason


async def test_a_true_answer_is_taken() -> None:
    made = await _process(TRUE, ORIGINAL, JPEG)
    assert (made.width, made.height, made.blurhash) == (40, 30, TRUE["blurhash"])


WEBP_START = b"RIFF\0\0\0\0WEBP"


@pytest.mark.parametrize(
    "thumbnails",
    [
        (),
        (b"<script>",) * 3,
        (WEBP_START,) * 3,
        (JPEG_START,) * 6,  # the last three are those in WebP
        (JPEG_START + bytes(4 << 20),) * 3,
        (*(JPEG_START,) * 3, WEBP_START + bytes(4 << 20)),
    ],
    ids=["none", "no pictures", "of another kind", "another kind of WebP", "too large", "too large a WebP"],
)
async def test_thumbnails_that_no_job_writes_are_a_crash(thumbnails: Sequence[bytes]) -> None:
    with pytest.raises(Rejected) as caught:
        await _process(TRUE, ORIGINAL, JPEG, thumbnails=thumbnails)
    assert caught.value.reason is Reason.DECODER_CRASHED


async def test_thumbnails_as_a_job_writes_them_are_taken() -> None:
    made = await _process(TRUE, ORIGINAL, JPEG, thumbnails=(*(JPEG_START,) * 3, WEBP_START))
    assert list(made.thumbnails.values()) == [JPEG_START] * 3 + [WEBP_START]


MANIFEST = struct.pack(">I4sI4s16s2s", 34, b"jumb", 26, b"jumd", CREDENTIALS_TYPE, b"\x03\x00")


async def test_credentials_that_a_job_found_are_taken() -> None:
    beside = {"credentials": "beside_file"}
    made = await _process(TRUE | beside, ORIGINAL, JPEG, manifest=MANIFEST)
    assert (made.credentials, made.manifest) == (CredentialsState.BESIDE_FILE, MANIFEST)
    for lie in (b"", MANIFEST + b"\0", b"<script>", struct.pack(">I", (1 << 20) + 1) + MANIFEST[4:] + bytes(1 << 20)):
        with pytest.raises(Rejected) as caught:
            await _process(TRUE | beside, ORIGINAL, JPEG, manifest=lie)
        assert caught.value.reason is Reason.DECODER_CRASHED


SIDES: tuple[Any, ...] = (10**12, 65_501, 0, -1, 4.5, "40", None, True, [])


@pytest.mark.parametrize(
    "lie",
    [
        *({side: value} for side in ("width", "height") for value in SIDES),
        {"width": 20_000, "height": 20_000},
        {"width": float("nan")},
        *({"duration_s": value} for value in (float("nan"), float("inf"), -0.1, 10.0**300, 10**400, "1", None, True)),
        *({"animated": value} for value in (1, "yes", None)),
        *({"blurhash": value} for value in ("", "LEHV6n", "<script>", "L" * 1000, "é" * 28, 7, None)),
        *({"scrubbed_bytes": value} for value in (0, -1, len(ORIGINAL) + 1, 8.0, "8", None, True)),
        *({"sha256": value} for value in ("", "0F" * 32, "0f" * 31, "0f" * 32 + "\n", "x" * 64, 5, None)),
        *({"credentials": value} for value in ("inside", "IN_FILE", "5", "\0")),
        {"credentials": []},
        {"digital_source_type": None},
        {"claim_generator": ["a"]},
        *({"digital_source_type": value} for value in ("a b", "x" * 65, "é", "1a", "a\n")),
        *({"claim_generator": value} for value in ("a\n", "\0", "é" * 128, "\u202e", "\ud800")),
        {"credentials": None},
    ],
    ids=str,
)
async def test_facts_of_a_picture_that_cannot_be_true_are_a_crash(lie: dict[str, Any]) -> None:
    assert await _refusal(TRUE | lie, ORIGINAL, JPEG) is Reason.DECODER_CRASHED


@pytest.mark.parametrize("name", TRUE)
async def test_facts_of_a_picture_that_are_missing_are_a_crash(name: str) -> None:
    rest = {key: value for key, value in TRUE.items() if key != name}
    assert await _refusal(rest, ORIGINAL, JPEG) is Reason.DECODER_CRASHED


@pytest.mark.parametrize("answer", [None, 1, "needed_bytes", ["needed_bytes"], {}, {"needed_bytes": 1}], ids=str)
async def test_an_answer_of_another_kind_is_a_crash(answer: Any) -> None:
    assert await _refusal(answer, ORIGINAL, JPEG) is Reason.DECODER_CRASHED
    assert await _refusal(answer, ORIGINAL, MP4) is Reason.DECODER_CRASHED


@pytest.mark.parametrize(
    "lie",
    [
        *({side: value} for side in ("width", "height") for value in SIDES),
        *({"blurhash": value} for value in ("<script>", 7)),
        *({"blank": value} for value in (None, 1, "no")),
        *({"key_frame": value} for value in (7, [0], [-1, 9], [0, -9], [0, (9 << 20) + 1], [1 << 40, 1])),
    ],
    ids=str,
)
def test_facts_of_a_poster_that_cannot_be_true_are_a_crash(lie: dict[str, Any]) -> None:
    true = {"width": 40, "height": 30, "blurhash": TRUE["blurhash"], "blank": False, "key_frame": [0, 9]}
    assert checked_poster(true, 1 << 40, VideoBounds()) == true | {"key_frame": Range(0, 9)}
    with pytest.raises(Rejected) as caught:
        checked_poster(true | lie, 1 << 40, VideoBounds())
    assert caught.value.reason is Reason.DECODER_CRASHED


SIZE = VIDEO.stat().st_size


@pytest.mark.parametrize(
    "missing",
    [None, 5, [1], [[1]], [[1, 2, 3]], [[-1, 4]], [[0, -4]], [[0, SIZE + 1]], [[SIZE, 1]], [[0.5, 1]], [["0", "1"]]],
    ids=str,
)
async def test_only_what_the_file_has_is_fetched(missing: Any) -> None:
    assert await _refusal({"missing": missing}, b"", MP4) is Reason.DECODER_CRASHED


def _plan(**lies: Any) -> bytes:
    return json.dumps(plan_to_json(examine(VIDEO)) | lies).encode()


async def test_a_sound_plan_is_taken() -> None:
    asked: list[Range] = []
    with pytest.raises(InterruptedError):
        await _process({"plan_bytes": 1}, _plan(), MP4, asked)
    assert asked == list(examine(VIDEO).poster_ranges)


@pytest.mark.parametrize(
    "lies",
    [
        *({"duration_s": value} for value in (float("nan"), float("inf"), -1, 1e9, "2", None, True)),
        *({"poster_s": value} for value in (float("nan"), float("inf"), -1, 1e9, "2", None)),
        *({"stream": value} for value in ("", "0", "i:", "i:1 ", "V:0]nullsrc[", "i:12345678901", 1, None)),
        *({"pixels": value} for value in (-1, 2.5, "4", None, True)),
        {"format": "mov"},
        {"format": "jpeg"},
        {"format": []},
        {"more": 1},
        {"poster_ranges": [[0, SIZE + 1]]},
        {"poster_ranges": [[-1, 1]]},
        {"poster_ranges": [[0.0, 1.0]]},
        {"patches": [[SIZE - 1, 2, ""]]},
        {"patches": [[0, 2, "00"]]},
        {"patches": [[0, 4, ""], [3, 4, ""]]},
        {"patches": [[8, 4, ""], [0, 4, ""]]},
        {"patches": [[True, 4, ""]]},
        {"patches": [[0, 4, "xy"]]},
        {"patches": 7},
    ],
    ids=str,
)
async def test_a_plan_that_cannot_be_true_is_a_crash(lies: dict[str, Any]) -> None:
    assert await _refusal({"plan_bytes": 1}, _plan(**lies), MP4) is Reason.DECODER_CRASHED


@pytest.mark.parametrize("written", [b"", b"[]", b"{}", b"null", b"[" * 100_000, b"\xff", _plan()[:-1]])
async def test_a_plan_that_is_none_is_a_crash(written: bytes) -> None:
    assert await _refusal({"plan_bytes": 1}, written, MP4) is Reason.DECODER_CRASHED


async def test_a_plan_for_another_format_is_a_crash() -> None:
    assert await _refusal({"plan_bytes": 1}, _plan(), MOV) is Reason.DECODER_CRASHED
