"""Files are scrubbed into copies: by the function, and by the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mediascrub import Format, MediaKind, ScrubCode, ScrubError, scrub_file
from mediascrub.__main__ import main

from .made_files import original_of
from .samples import DATA
from .videos import apply_patches, examine

ONE_OF_EACH = {
    Format.JPEG: "jpeg-exif-thumbnail-differs.jpg",
    Format.PNG: "png-exif-gps-text.png",
    Format.GIF: "gif-animated.gif",
    Format.WEBP: "webp-lossy-icc.webp",
    Format.AVIF: "avif-animated-exif-gps-xmp.avif",
    Format.HEIC: "heic-still-portrait.heic",
    Format.MP4: "mp4-h264-udta-xyz-location.mp4",
    Format.MOV: "mov-iphone4s-portrait-rotated-gps.mov",
    Format.WEBM: "webm-vp8.webm",
    Format.MKV: "mkv-h264-ac3.mkv",
    Format.MP3: "mp3-lame-id3-ape-gain.mp3",
    Format.OGG: "ogg-vorbis-comments.ogg",
    Format.FLAC: "flac-id3-cover-gain.flac",
    Format.M4A: "m4a-aac-cover-chapters.m4a",
    Format.WAV: "wav-extensible-list-unknown-length.wav",
    Format.WEBA: "webm-opus-live.weba",
}
PHOTO, VIDEO = DATA / ONE_OF_EACH[Format.PNG], DATA / ONE_OF_EACH[Format.MP4]


@pytest.mark.parametrize("fmt", Format)
def test_a_copy_is_scrubbed_once_and_for_all(fmt: Format, tmp_path: Path) -> None:
    source, once, twice = DATA / ONE_OF_EACH[fmt], tmp_path / "once", tmp_path / "twice"
    assert scrub_file(source, once)
    if fmt.kind is MediaKind.IMAGE:
        assert once.read_bytes() == original_of(source.read_bytes(), fmt)
    else:
        assert once.read_bytes() == apply_patches(examine(source).patches, source.read_bytes())
    assert not scrub_file(once, twice)
    assert twice.read_bytes() == once.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once", "twice"]


@pytest.mark.parametrize(("name", "code"), [("pdf.pdf", ScrubCode.UNSUPPORTED), ("zero-byte.jpg", ScrubCode.EMPTY)])
def test_a_file_that_is_refused_leaves_the_target_as_it_was(name: str, code: ScrubCode, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"before")
    with pytest.raises(ScrubError) as refused:
        scrub_file(DATA / name, target)
    assert refused.value.code is code
    with pytest.raises(ScrubError):
        scrub_file(DATA / "mp4-broken.mp4", target)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("target", b"before")]


def test_the_command_writes_beside_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    shutil.copy(PHOTO, photo)
    assert main([str(photo)]) == 0
    copy = tmp_path / "photo.scrubbed.png"
    assert capsys.readouterr().out == f"{photo} -> {copy}\n"
    assert photo.read_bytes() == PHOTO.read_bytes()
    assert main([str(copy), "-o", str(tmp_path / "again.png")]) == 0
    assert capsys.readouterr().out.endswith("again.png, nothing to remove\n")


def test_the_command_goes_on_after_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DATA / "pdf.pdf"), str(tmp_path / "none"), str(PHOTO), "-o", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "pdf.pdf: unsupported: its type is pdf" in said.err
    assert "No such file" in said.err
    assert (tmp_path / PHOTO.name).is_file()


def test_the_command_never_replaces_the_file_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    shutil.copy(PHOTO, photo)
    assert main([str(photo), "-o", str(tmp_path)]) == 1
    assert "would replace the file itself" in capsys.readouterr().err
    assert photo.read_bytes() == PHOTO.read_bytes()


def test_several_files_go_to_a_directory_which_is_made(tmp_path: Path) -> None:
    assert main([str(PHOTO), str(VIDEO), "-o", str(tmp_path / "clean")]) == 0
    assert {each.name for each in (tmp_path / "clean").iterdir()} == {PHOTO.name, VIDEO.name}
    (tmp_path / "one.png").touch()
    with pytest.raises(SystemExit) as ended:
        main([str(PHOTO), str(VIDEO), "-o", str(tmp_path / "one.png")])
    assert ended.value.code == 2
