"""What an edit list cuts away is gone, or needed for what is shown."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from mediascrub import Format, ScrubCode

from .made_files import box, refused
from .made_heif import AV1C, COLR, ISPE, PIXI, MadeHeif, MadeItem
from .videos import apply_patches, examine, ffmpeg, frames, probe, scrub, store_of

_PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=6")
_SOUND = ("-f", "lavfi", "-i", "aevalsrc=sin(1000*t*t):d=6")
_CUT_S, _SHOWN_S = 2.4, 1.0
_SECOND = 25 + 1  # frames: those of an edit, and one that it ends in


def _edited(path: Path, shown_s: float = _SHOWN_S) -> None:
    """Let each track show a second from 2.4 s on, by its edit list."""
    data, at = bytearray(path.read_bytes()), 0
    while (at := data.find(b"elst", at + 1)) >= 0:
        assert data[at + 8 : at + 12] == b"\0\0\0\1"
        header = data.index(b"mdhd", at)
        (timescale,) = struct.unpack_from(">I", data, header + 16)
        (_, start) = struct.unpack_from(">Ii", data, at + 12)
        struct.pack_into(">Ii", data, at + 12, int(shown_s * 1000), start + int(_CUT_S * timescale))
    path.write_bytes(data)


def _decodable(path: Path) -> tuple[int, int]:
    """Return the number of frames and of packets of sound that a reader finds that ignores edit lists."""
    command = ["ffprobe", "-v", "error", "-ignore_editlist", "1", "-count_packets", "-show_entries"]
    command += ["stream=codec_type,nb_read_packets", "-of", "csv=p=0", str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    counts = dict(line.split(",")[:2] for line in found)
    return int(counts["video"]), int(counts.get("audio", 0))


@pytest.mark.parametrize(
    "options",
    [
        ("-g", "25"),
        ("-g", "25", "-movflags", "+faststart"),
        ("-g", "250"),
        ("-g", "25", "-bf", "0"),
        ("-g", "25", "-an"),
        ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=25"),
        ("-c:v", "mjpeg", "-c:a", "pcm_s16le", "-f", "mov"),
    ],
    ids=" ".join,
)
def test_samples_that_no_edit_shows_are_gone(options: tuple[str, ...], tmp_path: Path) -> None:
    path, target = tmp_path / "cut.mov", tmp_path / "clean.mov"
    ffmpeg(*_PICTURE, *_SOUND, *options, path)
    _edited(path)
    assert _decodable(path)[0] == 150
    plan = scrub(path, target)
    assert plan.duration_s == pytest.approx(_SHOWN_S, abs=0.03)
    assert frames(target) == frames(path) != []
    pictures, packets = _decodable(target)
    before = 60 if "250" in options else 0 if "mjpeg" in options else 10  # from the key frame on
    assert _SECOND - 1 <= pictures - before <= _SECOND + 3
    assert packets < 0.45 * max(_decodable(path)[1], 1)
    assert target.read_bytes().count(0) - path.read_bytes().count(0) > 0.4 * path.stat().st_size
    assert examine(target).patches == ()


def test_a_copy_of_a_part_keeps_what_its_first_picture_needs(tmp_path: Path) -> None:
    whole, path, target = (tmp_path / f"{name}.mp4" for name in ("whole", "part", "clean"))
    ffmpeg(*_PICTURE, *_SOUND, "-g", "25", whole)
    ffmpeg("-ss", str(_CUT_S), "-i", whole, "-t", str(_SHOWN_S), "-c", "copy", path)
    scrub(path, target)
    assert frames(target) == frames(path) != []
    pictures, _ = _decodable(target)
    assert pictures - len([frame for frame in frames(path) if frame.track == 0]) <= 10 + 3


def test_of_a_large_video_the_beginning_that_no_edit_shows_is_not_fetched(tmp_path: Path) -> None:
    path, target = tmp_path / "large.mp4", tmp_path / "clean.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=60", "-preset", "ultrafast", "-g", "25", path)
    assert path.read_bytes().count(b"x264 - core") == 1  # in the first picture
    _edited(path, shown_s=50)
    with store_of(path) as store:
        plan = store.examine(Format.MP4)
        assert store.fetched_bytes < path.stat().st_size / 2
    target.write_bytes(apply_patches(plan.patches, path.read_bytes()))
    assert b"x264 - core" not in target.read_bytes()
    assert frames(target) == frames(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_disabled_tracks_go(suffix: str, tmp_path: Path) -> None:
    path, target = tmp_path / f"two.{suffix}", tmp_path / f"clean.{suffix}"
    ffmpeg(*_PICTURE, *_SOUND, *_SOUND, "-map", "0", "-map", "1", "-map", "2", "-t", "1", path)
    data = bytearray(path.read_bytes())
    if suffix == "mp4":  # ffmpeg disables a second track of sound
        assert data.count(b"tkhd\0\0\0\2") == 1
    else:
        at = data.rindex(b"\x22\xb5\x9c\x83und")  # the language of the last track
        data[at : at + 7] = b"\xb9\x81\x00\xec\x82\0\0"
        path.write_bytes(data)
    scrub(path, target)
    assert [each["codec_type"] for each in probe(target)["streams"]] == ["video", "audio"]
    assert frames(target) == [frame for frame in frames(path) if frame.track != 2]


def test_an_avif_that_is_cropped_is_unsupported() -> None:
    """Browsers do not agree on the crop, and the rest of the picture cannot be removed."""
    crop = b"!" + box(b"clap", struct.pack(">IIIIiIiI", 320, 1, 448, 1, 0, 1, 0, 1))
    item = MadeItem(1, properties=(ISPE, PIXI, b"!" + AV1C, COLR, crop))
    assert refused(MadeHeif(items=(item,)).build(), Format.AVIF) is ScrubCode.UNSUPPORTED
