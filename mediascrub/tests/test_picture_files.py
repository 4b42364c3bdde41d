"""Real pictures come out clean and unchanged: another program looks for tags, other libraries compare the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mediascrub import ScrubCode, ScrubError
from mediascrub.sniffing import sniff

from .allowed_tags import leaks
from .made_files import original_of
from .samples import BROKEN, DAMAGED, DATA, PICTURES, decode, exiftool
from .videos import frames

SMUGGLED = (
    b"LEAK",
    b"<script",
    b"PK\x03\x04",
    b"ftypmp4",
    b"http://ns.adobe.com",
    b"Photoshop 3.0",
    b"MPF\x00",
    b"GPS",
)


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Any]]:
    """What exiftool finds in every scrubbed picture, in one run of it."""
    directory = tmp_path_factory.mktemp("scrubbed")
    for name, fmt in PICTURES.items():
        (directory / name).write_bytes(original_of((DATA / name).read_bytes(), fmt))
    return exiftool(*(directory / name for name in PICTURES))


@pytest.mark.parametrize("name", PICTURES)
def test_no_private_tag_is_left(name: str, tags: Mapping[str, Mapping[str, Any]]) -> None:
    assert leaks(tags[name]) == {}


def test_the_uploads_do_have_private_tags() -> None:
    """The check above would be worth nothing if it passed on these."""
    private = [name for name in PICTURES if "gps" in name or "motion" in name or "leak" in name]
    found = exiftool(*(DATA / name for name in private))
    assert all(leaks(found[name]) for name in private)


@pytest.mark.parametrize(("name", "fmt"), PICTURES.items())
def test_pixels_profile_orientation_and_animation_are_unchanged(name: str, fmt: Any) -> None:
    before = (DATA / name).read_bytes()
    after = original_of(before, fmt)
    assert decode(after, fmt) == decode(before, fmt)
    assert len(after) <= len(before)


@pytest.mark.parametrize("name", ["gif-animated.gif", "bomb-gif-10k-frames-16x16.gif"])
def test_all_frames_of_a_long_animation_are_unchanged(name: str, tmp_path: Path) -> None:
    """By ffmpeg, and to the last one: the pictures above are compared for forty frames."""
    clean = tmp_path / name
    clean.write_bytes(original_of((DATA / name).read_bytes(), PICTURES[name]))
    assert frames(clean) == frames(DATA / name)


@pytest.mark.parametrize(("name", "fmt"), (PICTURES | DAMAGED).items())
def test_nothing_smuggled_is_left_and_a_second_time_changes_nothing(name: str, fmt: Any) -> None:
    after = original_of(memoryview((DATA / name).read_bytes()), fmt)
    assert [each for each in SMUGGLED if each in after] == []
    assert original_of(after, fmt) == after
    assert sniff(after, size=len(after)).format is fmt


@pytest.mark.parametrize(("name", "fmt"), BROKEN.items())
def test_a_structure_that_no_decoder_could_follow_is_corrupt(name: str, fmt: Any) -> None:
    with pytest.raises(ScrubError) as rejected:
        original_of((DATA / name).read_bytes(), fmt)
    assert rejected.value.code is ScrubCode.CORRUPT


@pytest.mark.parametrize("name", ["jpeg-truncated-half.jpg", "png-truncated-half.png", "fuzz-firefox-chrome-leak.jpg"])
def test_a_picture_that_does_not_decode_does_not_start_to(name: str) -> None:
    after = original_of((DATA / name).read_bytes(), DAMAGED[name])
    with pytest.raises(OSError, match="truncated"):
        decode(after, DAMAGED[name])


def test_the_second_pictures_are_gone() -> None:
    """Gain maps and stereo halves are JPEGs behind the JPEG."""
    for name in ("jpeg-apple-gainmap-mpf-p3.jpg", "jpeg-pixel4a-gps-gainmap.jpg", "mpo-stereo.mpo"):
        before = (DATA / name).read_bytes()
        assert before.count(b"\xff\xd8\xff") > 1
        assert original_of(before, PICTURES[name]).count(b"\xff\xd8\xff") == 1
