"""What the origin serves of every accepted sample: no private tag, and the very pixels, profile and samples uploaded.

exiftool and ffprobe look for tags (against the allow lists of the unit tests), Pillow, libheif and ffmpeg decode.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from avion_media.domain.formats import MediaFormat
from avion_media.wire.avion import media_pb2 as wire
from tests.service.harness import Service
from tests.service.test_manifest import declared_type, rows
from tests.unit.container import videos
from tests.unit.container.allowed import leaks as video_leaks
from tests.unit.container.allowed import probe_leaks
from tests.unit.container.test_container_files import VIDEOS
from tests.unit.scrub.allowed_tags import leaks as picture_leaks
from tests.unit.scrub.samples import PICTURES, decode, exiftool

# Valid pictures that are refused all the same: their frames have more pixels than UPLOAD__MAX_PIXELS, or too few rows.
_MAY_BE_REFUSED = frozenset(row["file"] for row in rows() if row["expected"] == "either")
# A quarter of a minute to decode; the smaller HEVC files show the same.
_NOT_DECODED = frozenset({"mp4-hevc-8k.mp4"})
_SMUGGLED = (b"LEAK", b"<script", b"http://ns.adobe.com")


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """HEIC is tested too."""
    return {"DECODERS__HEIC": "true"}


def served(service: Service, data_directory: Path, name: str) -> bytes | None:
    """What the origin has for an upload of this sample; None when it was refused, and may be."""
    status = service.upload(name, declared_type(name), (data_directory / name).read_bytes())
    if status.state == wire.MediaStatus.FAILED and name in _MAY_BE_REFUSED:
        return None
    assert status.state == wire.MediaStatus.READY, status
    response = service.get(f"/media/{status.media_id}")
    assert response.status_code == 200
    assert len(response.content) == status.size
    return response.content


@pytest.mark.parametrize(("name", "fmt"), PICTURES.items())
def test_a_picture(service: Service, data_directory: Path, tmp_path: Path, name: str, fmt: MediaFormat) -> None:
    content = served(service, data_directory, name)
    if content is None:
        return
    clean = tmp_path / name
    clean.write_bytes(content)
    assert picture_leaks(exiftool(clean)[name]) == {}
    assert [each for each in _SMUGGLED if each in content] == []
    before, after = decode((data_directory / name).read_bytes(), fmt), decode(content, fmt)
    assert after == before  # every frame's pixels, size and duration; colours; orientation; loops


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video(service: Service, data_directory: Path, tmp_path: Path, name: str) -> None:
    content = served(service, data_directory, name)
    assert content is not None
    clean = tmp_path / name
    clean.write_bytes(content)
    (tags,) = videos.exiftool(clean)
    assert list(video_leaks(tags)) == []
    assert list(probe_leaks(videos.probe(clean))) == []
    assert [each for each in _SMUGGLED if each in content] == []
    if name not in _NOT_DECODED:
        frames = videos.frames(clean)
        assert frames
        assert frames == videos.frames(data_directory / name)


@pytest.mark.parametrize("name", ["gif-animated.gif", "bomb-gif-10k-frames-16x16.gif"])
def test_all_frames_of_a_long_animation(service: Service, data_directory: Path, tmp_path: Path, name: str) -> None:
    """By ffmpeg, and to the last one: the pictures above are compared for forty frames."""
    content = served(service, data_directory, name)
    if content is None:
        return
    clean = tmp_path / name
    clean.write_bytes(content)
    assert videos.frames(clean) == videos.frames(data_directory / name)


def test_the_checks_would_find_what_was_there(data_directory: Path) -> None:
    name = "jpeg-exif-thumbnail-differs.jpg"
    assert picture_leaks(exiftool(data_directory / name)[name])
    (tags,) = videos.exiftool(data_directory / "mp4-h264-udta-xyz-location.mp4")
    assert list(video_leaks(tags))
