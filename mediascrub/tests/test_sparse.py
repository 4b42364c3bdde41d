"""A video in a store: little of it is fetched, and what is fetched suffices to decode its beginning."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.movie import MoviePlan
from mediascrub.ranges import Range
from mediascrub.sparse import Missing, SparseFile

from .videos import DATA, examine, ffmpeg, first_frames, sparse_copy, store_of

CLIP = DATA / "mp4-h264-4k60-portrait.mp4"
_FRAMES = 6
_MEGABYTE = 1_000_000
_FASTEST = {"libx264": "ultrafast", "libvpx": "realtime"}


@pytest.fixture
def directory() -> Iterator[Path]:
    """For files too large to be left behind, as ``tmp_path`` does."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _long(directory: Path, name: str, *options: str) -> Path:
    """More than 150 MB of 4K at 60 Hz, by repeating a phone's clip."""
    path = directory / name
    ffmpeg("-stream_loop", "63", "-i", CLIP, "-c", "copy", *options, path)
    assert path.stat().st_size > 150 * _MEGABYTE
    return path


@pytest.mark.parametrize("options", [(), ("-movflags", "+faststart")], ids=["index last", "index first"])
def test_a_large_movie_costs_less_than_ten_megabytes(directory: Path, options: tuple[str, ...]) -> None:
    path = _long(directory, "long.mp4", *options)
    with store_of(path) as store:
        plan = store.examine(Format.MP4)
        assert store.rounds <= 5
        assert store.fetched_bytes < 11 * _MEGABYTE  # the poster's seconds are among them: they decide on the rest
    assert sum(each.length for each in plan.poster_ranges) < 10 * _MEGABYTE
    assert plan.poster_s > 0.5
    _assert_decodes_alike(path, plan, directory)
    assert sum(each.length for each in plan.patches) < 2000


@pytest.mark.parametrize("options", [(), ("-reserve_index_space", "100k")], ids=["cues last", "cues first"])
def test_a_large_matroska_file_costs_less_than_thirty_megabytes(directory: Path, options: tuple[str, ...]) -> None:
    # Clusters of 5 MB, 30 of them: a header each, rounded up by the store, and 9 MiB for the poster.
    path = _long(directory, "long.mkv", *options)
    with store_of(path) as store:
        plan = store.examine(Format.MKV)
        store.fetch([(each.offset, each.length) for each in plan.poster_ranges])
        assert store.rounds <= 20
        assert store.fetched_bytes < 30 * _MEGABYTE
    assert sum(each.length for each in plan.poster_ranges) < 10 * _MEGABYTE
    _assert_decodes_alike(path, plan, directory)


@pytest.mark.parametrize(
    ("flags", "max_bytes"),
    [("frag_keyframe+empty_moov+default_base_moof", 12), ("dash+frag_keyframe+global_sidx", 12)],
    ids=["random access index", "segment index"],
)
def test_fragments_with_an_index_are_fetched_by_it(directory: Path, flags: str, max_bytes: int) -> None:
    path = _long(directory, "fragments.mp4", "-an", "-movflags", flags)
    with store_of(path) as store:
        plan = store.examine(Format.MP4)
        assert store.rounds <= 12
        assert store.fetched_bytes < max_bytes * _MEGABYTE + 64 * (64 << 10) * 2
    assert plan.duration_s == pytest.approx(examine(path).duration_s)
    _assert_decodes_alike(path, plan, directory)


def test_fragments_without_an_index_are_read_in_growing_windows(directory: Path) -> None:
    path = _long(directory, "bare.mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof+skip_trailer")
    with store_of(path) as store:
        plan = store.examine(Format.MP4)
        assert store.rounds <= 64
    assert plan.duration_s == pytest.approx(64 * 0.3, rel=0.1)


@pytest.mark.parametrize(
    "name",
    [
        "mov-h264.mov",
        "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov",
        "mov-iphone4s-portrait-rotated-gps.mov",
        "mp4-av1.mp4",
        "mp4-fragmented.mp4",
        "mp4-h264-3s-black-intro.mp4",
        "mp4-h264-moov-at-end.mp4",
        "mp4-h264-udta-xyz-location.mp4",
        "mp4-hevc.mp4",
        "mp4-vp9-anamorphic.mp4",
        "mkv-h264-ac3.mkv",
        "webm-vp8.webm",
        "webm-vp9.webm",
    ],
)
def test_the_poster_ranges_suffice_for_real_files(name: str, tmp_path: Path) -> None:
    _assert_decodes_alike(DATA / name, examine(DATA / name, poster_s=0.5), tmp_path)


def test_only_the_seconds_asked_for_are_needed(tmp_path: Path) -> None:
    for name, codec in (("minute.mp4", "libx264"), ("minute.webm", "libvpx")):
        clip, path = tmp_path / f"clip-{name}", tmp_path / name
        source = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4", "-c:v", codec, "-g", "50")
        ffmpeg(*source, "-b:v", "2M", "-deadline" if codec == "libvpx" else "-preset", _FASTEST[codec], clip)
        ffmpeg("-stream_loop", "14", "-i", clip, "-c", "copy", path)
        plan = examine(path, poster_s=3.0)
        needed = sum(each.length for each in plan.poster_ranges)
        assert needed < path.stat().st_size / 10
        assert plan.poster_s == 3.0
        _assert_decodes_alike(path, plan, tmp_path, count=75)


def test_a_trimmed_movie_needs_what_its_edit_list_shows(tmp_path: Path) -> None:
    source, trimmed = tmp_path / "source.mp4", tmp_path / "trimmed.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=20", "-g", "125", source)
    ffmpeg("-ss", "12.4", "-i", source, "-c", "copy", trimmed)  # begins at the sync sample of second 10
    plan = examine(trimmed, poster_s=1.0)
    assert plan.duration_s == pytest.approx(7.6, abs=0.1)
    _assert_decodes_alike(trimmed, plan, tmp_path)


def test_a_live_recording_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "live.webm"
    video = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=320x240:r=25:d=4",
        "-c:v",
        "libvpx",
        "-deadline",
        "realtime",
        "-b:v",
        "1M",
    )
    path.write_bytes(ffmpeg(*video, "-f", "webm", "-live", "1", "pipe:1"))
    with store_of(path) as store:
        plan = store.examine(Format.WEBM)
        assert store.rounds <= 5
    assert plan.duration_s == pytest.approx(4.0, abs=0.1)
    _assert_decodes_alike(path, plan, tmp_path)


def _assert_decodes_alike(path: Path, plan: MoviePlan, directory: Path, count: int = _FRAMES) -> None:
    sparse = directory / f"sparse{path.suffix}"
    sparse_copy(path, sparse, plan.poster_ranges)
    expected = first_frames(path, plan, count)
    assert expected
    assert first_frames(sparse, plan, count) == expected


# --- the sparse file itself -------------------------------------------------------------------------------------


def test_a_read_of_a_hole_names_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as file:
        sparse = SparseFile(file.fileno(), 100, [Range(20, 10), Range(0, 10), Range(10, 5)])
        assert sparse.read(2, 12) == bytes(range(2, 14))
        with pytest.raises(Missing) as caught:
            sparse.read(10, 15)
        assert caught.value.ranges == (Range(15, 10),)
        with pytest.raises(Missing) as caught:
            sparse.require([Range(90, 50), Range(0, 3), Range(12, 6), Range(15, 7)])
        assert caught.value.ranges == (Range(15, 7), Range(90, 10))
        with pytest.raises(Missing) as caught:
            sparse.reading_ahead(50).read(40, 1)
        assert caught.value.ranges == (Range(40, 50),)


@pytest.mark.parametrize(("offset", "length"), [(95, 6), (-1, 2), (200, 0)])
def test_a_read_outside_the_file_is_corrupt(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with path.open("rb") as file, pytest.raises(ScrubError) as caught:
        SparseFile(file.fileno(), 100).read(offset, length)
    assert caught.value.code is ScrubCode.CORRUPT
