"""Real videos: facts, refusals, and a scrub that other programs find nothing after."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.bounds import VideoBounds
from mediascrub.movie import MoviePlan

from .allowed_in_videos import leaks, tag_leaks
from .videos import (
    DATA,
    apply_patches,
    examine,
    examine_bytes,
    exiftool,
    frames,
    probe,
    scrub,
    shown_size,
)

# name: width, height, seconds
VIDEOS: dict[str, tuple[int, int, float]] = {
    "mkv-h264-ac3.mkv": (1080, 720, 1.072),
    "mov-h264.mov": (640, 428, 1.02),
    "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov": (1280, 720, 0.107),
    "mov-iphone4s-portrait-rotated-gps.mov": (640, 480, 1.017),
    "mp4-av1.mp4": (1080, 720, 1.088),
    "mp4-fragmented.mp4": (1080, 720, 1.068),
    "mp4-h264-3s-black-intro.mp4": (640, 360, 6.0),
    "mp4-h264-4k60-portrait.mp4": (3840, 2160, 0.313),
    "mp4-h264-all-black-10s.mp4": (320, 240, 10.0),
    "mp4-h264-faststart.mp4": (1080, 720, 1.068),
    "mp4-h264-moov-at-end.mp4": (1080, 720, 1.088),
    "mp4-h264-portrait-native.mp4": (720, 1080, 1.088),
    "mp4-h264-rotated-90-tiny.mp4": (100, 60, 0.042),
    "mp4-h264-udta-xyz-location.mp4": (640, 360, 2.0),
    "mp4-hevc-8k.mp4": (7680, 4320, 0.34),
    "mp4-hevc.mp4": (854, 480, 1.0),
    "mp4-vp9-anamorphic.mp4": (1138, 640, 4.0),
    "webm-vp8.webm": (640, 356, 0.072),
    "webm-vp9.webm": (642, 642, 2.967),
}
REFUSED: dict[str, ScrubCode] = {
    "fuzz-ffmpeg-h264-bad-read.mp4": ScrubCode.CORRUPT,
    "mov-external-dref-alis.mov": ScrubCode.EXTERNAL_REFERENCE,
    "mp4-broken.mp4": ScrubCode.CORRUPT,
    "mp4-init-segment-no-frames.mp4": ScrubCode.ENCRYPTED,
    "mp4-truncated-moov-at-end.mp4": ScrubCode.CORRUPT,
    "random-bytes.mp4": ScrubCode.CORRUPT,
    "hls-ssrf-named.mp4": ScrubCode.CORRUPT,
    "ffconcat-named.mov": ScrubCode.CORRUPT,
}
_HEAVY = frozenset(("mp4-hevc-8k.mp4",))  # a quarter of a minute to decode; the smaller HEVC files show the same


@pytest.fixture(scope="module")
def scrubbed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, MoviePlan]]:
    """All videos, scrubbed."""
    directory = tmp_path_factory.mktemp("scrubbed")
    return {name: (directory / name, scrub(DATA / name, directory / name)) for name in VIDEOS}


@pytest.fixture(scope="module")
def tags(scrubbed: Mapping[str, tuple[Path, MoviePlan]]) -> Mapping[str, Mapping[str, Any]]:
    """What exiftool finds in the scrubbed videos."""
    return {Path(each["SourceFile"]).name: each for each in exiftool(*(path for path, _ in scrubbed.values()))}


@pytest.mark.parametrize("name", VIDEOS)
def test_facts_are_those_of_the_content(name: str) -> None:
    plan = examine(DATA / name)
    width, height, seconds = VIDEOS[name]
    assert shown_size(DATA / name) == (width, height)
    assert plan.duration_s == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_video_is_refused(name: str) -> None:
    with pytest.raises(ScrubError) as caught:
        examine(DATA / name)
    assert caught.value.code is REFUSED[name]


@pytest.mark.parametrize("name", VIDEOS)
def test_no_private_tag_is_left(
    name: str, scrubbed: Mapping[str, tuple[Path, MoviePlan]], tags: Mapping[str, Mapping[str, Any]]
) -> None:
    path, _ = scrubbed[name]
    assert list(leaks(tags[name])) == []
    assert list(tag_leaks(path)) == []


def test_the_allow_list_would_find_what_was_there() -> None:
    for name in VIDEOS:
        if "gps" in name or "location" in name:
            (found,) = exiftool(DATA / name)
            assert any("GPS" in leak or "Location" in leak for leak in leaks(found))
            assert list(tag_leaks(DATA / name))


@pytest.mark.parametrize("name", VIDEOS)
def test_length_and_samples_are_unchanged(name: str, scrubbed: Mapping[str, tuple[Path, MoviePlan]]) -> None:
    path, _ = scrubbed[name]
    assert path.stat().st_size == (DATA / name).stat().st_size
    if name not in _HEAVY:
        before, after = frames(DATA / name), frames(path)
        assert before
        assert after == before


@pytest.mark.parametrize("name", VIDEOS)
def test_how_it_is_shown_is_unchanged(name: str, scrubbed: Mapping[str, tuple[Path, MoviePlan]]) -> None:
    assert _shown(scrubbed[name][0]) == _shown(DATA / name) != []


def _shown(path: Path) -> list[dict[str, Any]]:
    """Everything ffprobe tells of picture and sound except for tags: colour, rotation, Dolby Vision, timing."""
    streams = [each for each in probe(path)["streams"] if each["codec_type"] in ("video", "audio")]
    return [{key: value for key, value in each.items() if key not in ("tags", "index")} for each in streams]


@pytest.mark.parametrize("name", VIDEOS)
def test_scrubbing_again_changes_nothing(name: str, scrubbed: Mapping[str, tuple[Path, MoviePlan]]) -> None:
    path, _ = scrubbed[name]
    assert examine(path).patches == ()


@pytest.mark.parametrize("name", VIDEOS)
def test_patches_are_sorted_apart_and_inside_the_file(
    name: str, scrubbed: Mapping[str, tuple[Path, MoviePlan]]
) -> None:
    patches = scrubbed[name][1].patches
    assert all(one.end <= other.offset for one, other in pairwise(patches))
    assert all(each.length > 0 and len(each.data) in (0, each.length) for each in patches)
    assert patches[-1].end <= (DATA / name).stat().st_size


def test_samples_of_timed_metadata_are_zeroed() -> None:
    name = "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov"
    data = (DATA / name).read_bytes()
    clean = apply_patches(examine(DATA / name).patches, data)
    assert b"mebx" in data
    assert b"mebx" not in clean
    assert b"+51.5334" in data
    assert b"+51.5334" not in clean
    # The first metadata sample of the third track, whose chunk offset the file tells.
    offset = int.from_bytes(data[61820 + 16 : 61820 + 20], "big")
    assert any(data[offset : offset + 10])
    assert clean[offset : offset + 10] == bytes(10)


def test_a_file_cut_off_in_its_samples_plays_as_far_as_it_goes() -> None:
    plan = examine(DATA / "mp4-truncated-faststart.mp4")
    assert plan.duration_s > 0
    assert 0 < plan.poster_s < 0.6


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (VideoBounds(max_pixels=640 * 359), ScrubCode.TOO_MANY_PIXELS),
        (VideoBounds(max_side=639), ScrubCode.BAD_DIMENSIONS),
        (VideoBounds(max_duration_s=1.9), ScrubCode.TOO_LONG),
        (VideoBounds(max_tracks=1), ScrubCode.CORRUPT),
        (VideoBounds(max_index_bytes=1000), ScrubCode.TOO_LARGE),
        (VideoBounds(max_boxes=10), ScrubCode.TOO_COMPLEX),
        (VideoBounds(max_samples=10), ScrubCode.TOO_COMPLEX),
        (VideoBounds(max_poster_bytes=1000), ScrubCode.TOO_LARGE),
    ],
)
def test_each_bound_has_its_reason(bounds: VideoBounds, reason: ScrubCode) -> None:
    with pytest.raises(ScrubError) as caught:
        examine(DATA / "mp4-h264-udta-xyz-location.mp4", bounds)
    assert caught.value.code is reason


def test_an_empty_file_is_corrupt() -> None:
    with pytest.raises(ScrubError) as caught:
        examine_bytes(b"", Format.MP4)
    assert caught.value.code is ScrubCode.CORRUPT
