"""Posters of real videos and of videos made here."""

from __future__ import annotations

import io
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mediascrub import Format, ScrubCode, ScrubError, VideoBounds
from mediathumbs import ThumbnailSize, make_poster

from .made import DATA, chunk, saved, thumbnail_of, with_chunks

HARD_LIMIT_S = 120
X264 = ("-c:v", "libx264", "-qp", "0")
Colour = tuple[int, int, int]
_FORMATS = {".mp4": Format.MP4, ".mov": Format.MOV, ".webm": Format.WEBM, ".mkv": Format.MKV}


@dataclass(frozen=True)
class Poster:
    """The largest thumbnail, 3 bytes a pixel, rows from the top; and the size of the video as displayed."""

    width: int
    height: int
    displayed: tuple[int, int]
    rgb: bytes


def _poster(path: Path, fmt: Format | None = None, **more: Any) -> Poster:
    """The poster of the only video, in one large thumbnail."""
    sizes = more.pop("sizes", [ThumbnailSize("poster", 1600)])
    options: dict[str, Any] = {"bounds": VideoBounds(), "quality": 95} | more
    with path.open("rb") as source:
        made = make_poster(source.fileno(), fmt or _FORMATS[path.suffix], "V:0", sizes, **options)
    image = Image.open(io.BytesIO(made.thumbnails.by_name["poster"]))
    return Poster(*image.size, (made.width, made.height), image.tobytes())


def _refusal(path: Path, fmt: Format | None = None, **more: Any) -> ScrubCode:
    with pytest.raises(ScrubError) as caught:
        _poster(path, fmt, **more)
    return caught.value.code


def _ffmpeg(*arguments: str) -> None:
    """Make a test video."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=HARD_LIMIT_S)


def _pixel(poster: Poster, across: float, down: float) -> Colour:
    """The colour at a place given in fractions of width and height."""
    offset = 3 * (int(down * poster.height) * poster.width + int(across * poster.width))
    red, green, blue = poster.rgb[offset : offset + 3]
    return red, green, blue


def _is_black(poster: Poster) -> bool:
    return max(poster.rgb) < 20


def _near(found: Colour, expected: Colour, tolerance: int = 8) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("mp4-vp9-anamorphic.mp4", 1138, 640),
        ("mp4-h264-rotated-90-tiny.mp4", 60, 100),
        ("mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov", 720, 1280),
        ("mp4-av1.mp4", 1080, 720),
        ("mp4-hevc.mp4", 854, 480),
        ("webm-vp8.webm", 640, 356),
    ],
)
def test_real_videos_have_their_displayed_size(name: str, width: int, height: int) -> None:
    poster = _poster(DATA / name)
    assert poster.displayed == (poster.width, poster.height) == (width, height)
    assert not _is_black(poster)


def test_a_large_video_is_scaled_and_a_small_one_never_enlarged() -> None:
    small = [ThumbnailSize("poster", 400)]
    poster = _poster(DATA / "mp4-vp9-anamorphic.mp4", sizes=small)
    assert poster.displayed == (1138, 640)
    assert (poster.width, poster.height) == (400, 225)
    poster = _poster(DATA / "mp4-h264-rotated-90-tiny.mp4", sizes=small)
    assert (poster.width, poster.height) == (60, 100)


def test_a_black_intro_is_passed_over() -> None:
    poster = _poster(DATA / "mp4-h264-3s-black-intro.mp4")
    assert max(_pixel(poster, 0.1, 0.5)) > 200


def test_the_search_for_a_picture_is_bounded() -> None:
    poster = _poster(DATA / "mp4-h264-3s-black-intro.mp4", scan_s=1)
    assert _is_black(poster)


def test_no_picture_beyond_the_seconds_searched_is_taken(tmp_path: Path) -> None:
    """The last sample would be such a one: of a sparse file, half of it might be there. Pictures are in order here."""
    path = tmp_path / "black-at-first.mp4"
    black, picture = "color=black:size=320x180:rate=7:duration=1.1", "testsrc2=size=320x180:rate=7:duration=1"
    _ffmpeg(
        "-f", "lavfi", "-i", black, "-f", "lavfi", "-i", picture, "-filter_complex", "concat", "-bf", "0", str(path)
    )
    poster = _poster(path, scan_s=1)
    assert _is_black(poster)
    poster = _poster(path, scan_s=1.2)
    assert not _is_black(poster)


def test_a_video_of_nothing_but_black_keeps_its_first_frame() -> None:
    poster = _poster(DATA / "mp4-h264-all-black-10s.mp4")
    assert _is_black(poster)
    assert (poster.width, poster.height) == (320, 240)


def test_only_the_first_seconds_are_read(tmp_path: Path) -> None:
    whole, sparse = tmp_path / "whole.mp4", tmp_path / "sparse.mp4"
    _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10:duration=60", "-movflags", "faststart", str(whole))
    size = whole.stat().st_size
    sparse.write_bytes(whole.read_bytes()[: size // 4])
    os.truncate(sparse, size)
    assert _poster(sparse) == _poster(whole)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flips", [(), ("-display_hflip",), ("-display_vflip",)])
def test_every_orientation_looks_as_ffmpeg_itself_shows_it(
    tmp_path: Path, degrees: int, flips: tuple[str, ...]
) -> None:
    plain, turned, shown = tmp_path / "plain.mp4", tmp_path / "turned.mp4", tmp_path / "shown.rgb"
    boxes = "drawbox=0:0:64:32:lime:fill,drawbox=64:32:64:32:blue:fill,drawbox=0:32:64:32:white:fill"
    _ffmpeg("-f", "lavfi", "-i", f"color=red:size=128x64:rate=1:duration=1,{boxes}", *X264, str(plain))
    _ffmpeg("-display_rotation", str(degrees), *flips, "-i", str(plain), "-c", "copy", str(turned))
    _ffmpeg("-i", str(turned), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", str(shown))
    poster = _poster(turned)
    assert (poster.width, poster.height) == ((64, 128) if degrees in {90, 270} else (128, 64))
    expected = Poster(poster.width, poster.height, poster.displayed, shown.read_bytes())
    for across, down in [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]:
        assert _near(_pixel(poster, across, down), _pixel(expected, across, down))


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("libx265", "hevc")])
def test_a_crop_of_the_coded_video_need_not_be_aligned(tmp_path: Path, encoder: str, codec: str) -> None:
    whole, cropped, shown = tmp_path / "whole.mp4", tmp_path / "cropped.mp4", tmp_path / "shown.rgb"
    boxes = "color=red:size=128x64:rate=1:duration=1,drawbox=10:4:118:60:blue:fill"
    _ffmpeg("-f", "lavfi", "-i", boxes, "-pix_fmt", "yuv420p", "-c:v", encoder, "-qp", "1", str(whole))
    crop = f"{codec}_metadata=crop_left=10:crop_top=4:crop_right=0:crop_bottom=0"
    _ffmpeg("-i", str(whole), "-c", "copy", "-bsf:v", crop, str(cropped))
    _ffmpeg("-i", str(cropped), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", str(shown))
    poster = _poster(cropped)
    assert poster.displayed == (poster.width, poster.height) == (118, 60)
    expected = replace(poster, rgb=shown.read_bytes())
    assert len(expected.rgb) == len(poster.rgb)
    for across, down in [(0.01, 0.02), (0.5, 0.5), (0.99, 0.98)]:
        assert _near(_pixel(poster, across, down), _pixel(expected, across, down))


def _patches(path: Path, colours: list[Colour], size: int, convert: str, *encoding: str) -> None:
    """A video of coloured columns (sRGB), converted and encoded as told."""
    inputs: list[str] = []
    for red, green, blue in colours:
        inputs += ["-f", "lavfi", "-i", f"color=0x{red:02x}{green:02x}{blue:02x}:size={size}x{size}:rate=1:duration=1"]
    labels = "".join(f"[{number}:v]format=gbrp[c{number}];" for number in range(len(colours)))
    columns = "".join(f"[c{number}]" for number in range(len(colours)))
    graph = f"{labels}{columns}hstack=inputs={len(colours)}[all];[all]{convert}[out]"
    _ffmpeg(*inputs, "-filter_complex", graph, "-map", "[out]", *encoding, str(path))


def _columns(poster: Poster, count: int) -> list[Colour]:
    return [_pixel(poster, (number + 0.5) / count, 0.5) for number in range(count)]


COLOURS: list[Colour] = [(220, 40, 40), (40, 200, 60), (50, 60, 210), (128, 128, 128), (235, 230, 60)]


@pytest.mark.parametrize(
    ("size", "matrix", "tag"),
    [
        (64, "bt601", None),  # small and untagged: BT.601
        (720, "bt709", None),  # HD and untagged: BT.709
        (64, "bt709", "bt709"),
        (720, "bt601", "smpte170m"),
    ],
)
def test_the_matrix_is_the_tagged_one_or_the_one_that_browsers_guess(
    tmp_path: Path, size: int, matrix: str, tag: str | None
) -> None:
    path = tmp_path / "colours.mp4"
    convert = f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv444p,setparams=colorspace={tag or 'unknown'}"
    _patches(path, COLOURS, size, convert, *X264, "-colorspace", tag or "unknown")
    poster = _poster(path)
    assert all(map(_near, _columns(poster, len(COLOURS)), COLOURS))


def test_full_range_video_is_not_stretched(tmp_path: Path) -> None:
    path = tmp_path / "full.mp4"
    convert = "scale=out_color_matrix=bt601:out_range=pc,format=yuv444p,setparams=range=pc"
    _patches(path, COLOURS, 64, convert, *X264, "-color_range", "pc")
    poster = _poster(path)
    assert all(map(_near, _columns(poster, len(COLOURS)), COLOURS))


def test_display_p3_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "p3.mp4"
    tags = "setparams=color_primaries=smpte432:color_trc=bt709:colorspace=bt709"
    convert = f"scale=out_color_matrix=bt709:out_range=tv,format=yuv444p,{tags}"
    encoding = ("-color_primaries", "smpte432", "-color_trc", "bt709", "-colorspace", "bt709")
    _patches(path, [(210, 110, 60), (128, 128, 128)], 64, convert, *X264, *encoding)
    poster = _poster(path)
    orange, grey = _columns(poster, 2)
    assert _near(orange, (225, 103, 43))
    assert _near(grey, (128, 128, 128), 2)


def _white_of_a_still(transfer: str) -> Colour:
    """The thumbnail's value of a PNG whose every sample is that of 203 cd/m² (ITU-R BT.2408)."""
    signal, code = {"smpte2084": (0.5807, 16), "arib-std-b67": (0.75, 18)}[transfer]
    still = Image.new("RGB", (64, 64), (round(255 * signal),) * 3)
    data = with_chunks(saved(still, "PNG"), chunk(b"cICP", bytes((9, code, 0, 1))))
    pixel = thumbnail_of(data, Format.PNG).getpixel((32, 32))
    assert isinstance(pixel, tuple)
    return pixel[0], pixel[1], pixel[2]


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize(("primaries", "matrix"), [("bt2020", "bt2020nc"), ("unknown", "unknown")])
def test_hdr_keeps_its_colours_and_comes_out_bright(tmp_path: Path, transfer: str, primaries: str, matrix: str) -> None:
    """sRGB colours put into HDR at a reference white of 203 cd/m² come back with their hue, ordered by lightness."""
    path = tmp_path / "hdr.mp4"
    colours: list[Colour] = [
        (255, 255, 255),
        (128, 128, 128),
        (30, 30, 30),
        (200, 60, 60),
        (60, 180, 60),
        (60, 60, 200),
    ]
    convert = (
        "format=gbrpf32le,zscale=tin=iec61966-2-1:pin=709:min=gbr:rin=pc:t=linear:npl=203:p=2020:m=gbr:r=pc,"
        f"zscale=tin=linear:pin=2020:min=gbr:rin=pc:t={transfer}:m=2020_ncl:r=tv:npl=203,format=yuv444p10le,"
        f"setparams=color_primaries={primaries}:colorspace={matrix}"
    )
    tags = ("-color_primaries", primaries, "-color_trc", transfer, "-colorspace", matrix)
    _patches(path, colours, 64, convert, *X264, *tags)
    poster = _poster(path)
    white, grey, dark, red, green, blue = _columns(poster, len(colours))
    assert _near(white, _white_of_a_still(transfer), 2)
    assert all(max(each) - min(each) <= 3 for each in (white, grey, dark))
    assert white > grey > dark
    for found, expected in ((red, 0), (green, 1), (blue, 2)):
        others = [value for channel, value in enumerate(found) if channel != expected]
        assert found[expected] > 1.8 * max(others)
        assert abs(others[0] - others[1]) <= 12


def test_fields_do_not_comb(tmp_path: Path) -> None:
    """A white bar that moves 8 pixels from field to field: woven, its edges are combs of 8 pixels."""
    bar = "color=black:size=320x240:rate=50:duration=1,geq=lum='if(between(X-T*400,40,120),235,16)':cb=128:cr=128"
    progressive, interlaced = tmp_path / "progressive.mp4", tmp_path / "interlaced.mp4"
    _ffmpeg("-f", "lavfi", "-i", bar, *X264, str(progressive))
    fields = ("-vf", "tinterlace=interleave_top", "-flags", "+ilme+ildct", "-x264-params", "tff=1")
    _ffmpeg("-f", "lavfi", "-i", bar, *fields, *X264, str(interlaced))
    poster = _poster(interlaced)
    reference = _poster(progressive)
    wrong = sum(abs(one - other) > 100 for one, other in zip(poster.rgb, reference.rgb, strict=True))
    assert wrong / len(poster.rgb) < 0.005


def _damaged(path: Path, start: int, codec: str) -> None:
    """Three seconds of video with 2000 damaged bytes from ``start`` of the media data on."""
    _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10:duration=3", "-c:v", codec, str(path))
    _damage(path, start)


def _damage(path: Path, start: int) -> None:
    whole = path.read_bytes()
    first = whole.index(b"mdat") + 4 + start
    damage = bytes(byte * 7 + 13 & 0xFF for byte in whole[first : first + 2000])
    path.write_bytes(whole[:first] + damage + whole[first + 2000 :])


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_first_picture_that_decodes_only_with_errors_is_corrupt(tmp_path: Path, codec: str) -> None:
    _damaged(tmp_path / "damaged.mp4", 2500, codec)
    assert _refusal(tmp_path / "damaged.mp4") is ScrubCode.CORRUPT


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_damage_behind_the_first_key_picture_does_not_matter(tmp_path: Path, codec: str) -> None:
    _damaged(tmp_path / "damaged.mp4", 20_000, codec)
    _damaged(tmp_path / "sound.mp4", 1 << 20, codec)
    poster = _poster(tmp_path / "damaged.mp4")
    assert poster == _poster(tmp_path / "sound.mp4")


def test_the_wrong_container_is_never_guessed() -> None:
    assert _refusal(DATA / "webm-vp8.webm", Format.MP4) is ScrubCode.CORRUPT
    assert _refusal(DATA / "mp4-hevc.mp4", Format.WEBM) is ScrubCode.CORRUPT


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mp4-audio-only.mp4", ScrubCode.NO_VIDEO),
        ("mp4-init-segment-no-frames.mp4", ScrubCode.CORRUPT),
        ("fuzz-ffmpeg-h264-bad-read.mp4", ScrubCode.CORRUPT),
        ("hls-ssrf-named.mp4", ScrubCode.CORRUPT),
        (
            "mov-external-dref-alis.mov",
            ScrubCode.CORRUPT,
        ),
    ],
)
def test_broken_and_hostile_files(name: str, reason: ScrubCode) -> None:
    assert _refusal(DATA / name) is reason


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    inputs = ("-f", "lavfi", "-i", "sine=duration=1", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=1:duration=1")
    disposition = ("-map", "0", "-map", "1", "-c:v", "mjpeg", "-frames:v", "1", "-disposition:v", "attached_pic")
    _ffmpeg(*inputs, *disposition, str(path))
    assert _refusal(path) is ScrubCode.NO_VIDEO


@pytest.mark.parametrize(
    ("name", "codec", "other"),
    [
        ("sound.mkv", "libx264", ("-c:a", "adpcm_ms")),
        ("sound.mkv", "libvpx-vp9", ("-c:a", "adpcm_ms")),
        ("sound.mov", "libx264", ("-c:a", "adpcm_ms")),
        ("sound.mov", "prores_ks", ("-c:a", "adpcm_ms")),
        ("words.mp4", "libx264", ("-c:s", "mov_text")),
        ("words.mp4", "libvpx-vp9", ("-c:s", "mov_text")),
        ("words.mkv", "libx264", ("-c:s", "subrip")),
    ],
)
def test_sound_and_subtitles_change_nothing(tmp_path: Path, name: str, codec: str, other: tuple[str, ...]) -> None:
    upright, alone, path = (tmp_path / f"{each}{Path(name).suffix}" for each in ("upright", "alone", "path"))
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x32:rate=2:duration=1")
    looks = ("-vf", "setsar=2", "-color_range", "tv", "-colorspace", "bt709", "-color_trc", "bt709")
    _ffmpeg(*picture, *looks, "-c:v", codec, str(upright))
    flip = () if path.suffix == ".mkv" else ("-display_hflip",)
    _ffmpeg("-display_rotation", "90", *flip, "-i", str(upright), "-c", "copy", str(alone))
    beside = ("-i", str(words)) if name.startswith("words") else ("-f", "lavfi", "-i", "sine=duration=1")
    _ffmpeg(*beside, "-i", str(alone), "-map", "0", "-map", "1", "-c:v", "copy", *other, str(path))
    expected = _poster(alone)
    assert _poster(path) == expected
    assert expected.height > expected.width


@pytest.mark.parametrize("codec", ["mpeg4", "h263"])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_size_that_only_a_frame_has_may_come_behind_sound(tmp_path: Path, codec: str, suffix: str) -> None:
    alone, path = tmp_path / f"alone.{suffix}", tmp_path / f"path.{suffix}"
    muxer = "3gp" if suffix == "mp4" else suffix  # the same boxes, and H.263 is allowed
    picture = ("-f", "lavfi", "-i", "testsrc2=size=176x144:rate=2:duration=1", "-c:v", codec)
    _ffmpeg(*picture, "-f", muxer, str(alone))
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-map", "1", "-c:a", "aac")
    _ffmpeg("-i", str(alone), *sound, "-map", "0", "-c:v", "copy", "-f", muxer, str(path))
    poster = _poster(path)
    assert poster.displayed == (176, 144)
    assert poster == _poster(alone)


def test_exotic_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    _ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "adpcm_ms", str(path))
    assert _refusal(path) is ScrubCode.NO_VIDEO


def test_an_exotic_codec_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "animation.mov"
    _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=1:duration=1", "-c:v", "qtrle", str(path))
    assert _refusal(path, Format.MOV) is ScrubCode.UNSUPPORTED


def test_pixels_are_counted_before_a_frame_is_decoded() -> None:
    few = VideoBounds(max_pixels=1080 * 720 - 1)
    assert _refusal(DATA / "mp4-av1.mp4", bounds=few) is ScrubCode.TOO_MANY_PIXELS


def test_an_aspect_that_only_the_coded_video_states_is_bounded(tmp_path: Path) -> None:
    plain, stretched = tmp_path / "plain.mkv", tmp_path / "stretched.mkv"
    _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=1200x32:rate=2:duration=1,setsar=0", *X264, str(plain))
    _ffmpeg("-i", str(plain), "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=9/1", str(stretched))
    assert _refusal(stretched) is ScrubCode.BAD_ASPECT
