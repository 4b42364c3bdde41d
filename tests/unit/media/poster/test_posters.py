"""Posters of real videos and of videos made here, by the real decoders in the real sandbox."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from PIL import Image

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_EXTENSION, MOV, MP4, WEBM, MediaFormat
from avion_media.media.memory import poster_bytes
from avion_media.media.sandbox import Sandbox, open_sandbox
from mediascrub import Format
from mediascrub.bounds import VideoBounds
from tests.bench.poster.blank import Blank, make_blank
from tests.unit.media.thumbnails.made import chunk, saved, thumbnail_of, with_chunks
from trio_sandbox import Limits

DATA = Path(__file__).parents[3] / "data"
HARD_LIMIT_S = 120
X264 = ("-c:v", "libx264", "-qp", "0")
LIMITS = Limits(memory_bytes=1 << 30, cpu_s=60.0, wall_s=90.0, output_bytes=4 << 20)
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Poster:
    """The largest thumbnail, 3 bytes a pixel, rows from the top; and the size of the video as displayed."""

    width: int
    height: int
    displayed: tuple[int, int]
    rgb: bytes


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(budget_bytes=2 << 30) as opened:
        yield opened


async def _job(sandbox: Sandbox, fds: list[int], fmt: MediaFormat, **more: Any) -> dict[str, Any]:
    """Run the job; by default with all memory."""
    arguments: dict[str, Any] = {
        "format": fmt.name,
        "stream": "V:0",
        "scan_s": 10.0,
        "key_frame": None,
        "bounds": asdict(VideoBounds()),
        "sizes": [["poster", 1600]],
        "quality": 95,
        "webp": "off",
        "granted_bytes": LIMITS.memory_bytes,
        "max_memory_bytes": LIMITS.memory_bytes,
    }
    arguments |= more
    limits = replace(LIMITS, memory_bytes=min(arguments["granted_bytes"], LIMITS.memory_bytes))
    with trio.fail_after(HARD_LIMIT_S):
        found = await sandbox.call("avion_media.media.poster:poster_job", arguments, files=fds, limits=limits)
    assert isinstance(found, dict)
    return found


async def _poster(sandbox: Sandbox, path: Path, fmt: MediaFormat | None = None, **more: Any) -> Poster:
    with path.open("rb") as source, tempfile.TemporaryFile() as jpeg, tempfile.TemporaryFile() as webp:
        fds = [each.fileno() for each in (source, jpeg, webp)]
        found = await _job(sandbox, fds, fmt or BY_EXTENSION[path.suffix[1:]], **more)
        image = Image.open(jpeg)
        return Poster(*image.size, (found["width"], found["height"]), image.tobytes())


async def _rejection(sandbox: Sandbox, path: Path, fmt: MediaFormat | None = None, **more: Any) -> Reason:
    with pytest.raises(Rejected) as caught:
        await _poster(sandbox, path, fmt, **more)
    return caught.value.reason


async def _ffmpeg(*arguments: str) -> None:
    """Make a test video, outside of the sandbox."""
    with trio.fail_after(HARD_LIMIT_S):
        await trio.run_process(["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments])


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
async def test_real_videos_have_their_displayed_size(sandbox: Sandbox, name: str, width: int, height: int) -> None:
    poster = await _poster(sandbox, DATA / name)
    assert poster.displayed == (poster.width, poster.height) == (width, height)
    assert not _is_black(poster)


async def test_a_large_video_is_scaled_and_a_small_one_never_enlarged(sandbox: Sandbox) -> None:
    small = [["poster", 400]]
    poster = await _poster(sandbox, DATA / "mp4-vp9-anamorphic.mp4", sizes=small)
    assert poster.displayed == (1138, 640)
    assert (poster.width, poster.height) == (400, 225)
    poster = await _poster(sandbox, DATA / "mp4-h264-rotated-90-tiny.mp4", sizes=small)
    assert (poster.width, poster.height) == (60, 100)


async def test_a_black_intro_is_passed_over(sandbox: Sandbox) -> None:
    poster = await _poster(sandbox, DATA / "mp4-h264-3s-black-intro.mp4")
    assert max(_pixel(poster, 0.1, 0.5)) > 200


async def test_the_search_for_a_picture_is_bounded(sandbox: Sandbox) -> None:
    poster = await _poster(sandbox, DATA / "mp4-h264-3s-black-intro.mp4", scan_s=1)
    assert _is_black(poster)


async def test_no_picture_beyond_the_seconds_searched_is_taken(sandbox: Sandbox, tmp_path: Path) -> None:
    """The last sample would be such a one: of a sparse file, half of it might be there. Pictures are in order here."""
    path = tmp_path / "black-at-first.mp4"
    black, picture = "color=black:size=320x180:rate=7:duration=1.1", "testsrc2=size=320x180:rate=7:duration=1"
    await _ffmpeg(
        "-f", "lavfi", "-i", black, "-f", "lavfi", "-i", picture, "-filter_complex", "concat", "-bf", "0", str(path)
    )
    poster = await _poster(sandbox, path, scan_s=1)
    assert _is_black(poster)
    poster = await _poster(sandbox, path, scan_s=1.2)
    assert not _is_black(poster)


async def test_a_video_of_nothing_but_black_keeps_its_first_frame(sandbox: Sandbox) -> None:
    poster = await _poster(sandbox, DATA / "mp4-h264-all-black-10s.mp4")
    assert _is_black(poster)
    assert (poster.width, poster.height) == (320, 240)


async def test_only_the_first_seconds_are_read(sandbox: Sandbox, tmp_path: Path) -> None:
    whole, sparse = tmp_path / "whole.mp4", tmp_path / "sparse.mp4"
    await _ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10:duration=60", "-movflags", "faststart", str(whole)
    )
    size = whole.stat().st_size
    sparse.write_bytes(whole.read_bytes()[: size // 4])
    os.truncate(sparse, size)
    assert await _poster(sandbox, sparse) == await _poster(sandbox, whole)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flips", [(), ("-display_hflip",), ("-display_vflip",)])
async def test_every_orientation_looks_as_ffmpeg_itself_shows_it(
    sandbox: Sandbox, tmp_path: Path, degrees: int, flips: tuple[str, ...]
) -> None:
    plain, turned, shown = tmp_path / "plain.mp4", tmp_path / "turned.mp4", tmp_path / "shown.rgb"
    boxes = "drawbox=0:0:64:32:lime:fill,drawbox=64:32:64:32:blue:fill,drawbox=0:32:64:32:white:fill"
    await _ffmpeg("-f", "lavfi", "-i", f"color=red:size=128x64:rate=1:duration=1,{boxes}", *X264, str(plain))
    await _ffmpeg("-display_rotation", str(degrees), *flips, "-i", str(plain), "-c", "copy", str(turned))
    await _ffmpeg("-i", str(turned), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", str(shown))
    poster = await _poster(sandbox, turned)
    assert (poster.width, poster.height) == ((64, 128) if degrees in {90, 270} else (128, 64))
    expected = Poster(poster.width, poster.height, poster.displayed, shown.read_bytes())
    for across, down in [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]:
        assert _near(_pixel(poster, across, down), _pixel(expected, across, down))


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("libx265", "hevc")])
async def test_a_crop_of_the_coded_video_need_not_be_aligned(
    sandbox: Sandbox, tmp_path: Path, encoder: str, codec: str
) -> None:
    whole, cropped, shown = tmp_path / "whole.mp4", tmp_path / "cropped.mp4", tmp_path / "shown.rgb"
    boxes = "color=red:size=128x64:rate=1:duration=1,drawbox=10:4:118:60:blue:fill"
    await _ffmpeg("-f", "lavfi", "-i", boxes, "-pix_fmt", "yuv420p", "-c:v", encoder, "-qp", "1", str(whole))
    crop = f"{codec}_metadata=crop_left=10:crop_top=4:crop_right=0:crop_bottom=0"
    await _ffmpeg("-i", str(whole), "-c", "copy", "-bsf:v", crop, str(cropped))
    await _ffmpeg("-i", str(cropped), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", str(shown))
    poster = await _poster(sandbox, cropped)
    assert poster.displayed == (poster.width, poster.height) == (118, 60)
    expected = replace(poster, rgb=shown.read_bytes())
    assert len(expected.rgb) == len(poster.rgb)
    for across, down in [(0.01, 0.02), (0.5, 0.5), (0.99, 0.98)]:
        assert _near(_pixel(poster, across, down), _pixel(expected, across, down))


async def _patches(path: Path, colours: list[Colour], size: int, convert: str, *encoding: str) -> None:
    """A video of coloured columns (sRGB), converted and encoded as told."""
    inputs: list[str] = []
    for red, green, blue in colours:
        inputs += ["-f", "lavfi", "-i", f"color=0x{red:02x}{green:02x}{blue:02x}:size={size}x{size}:rate=1:duration=1"]
    labels = "".join(f"[{number}:v]format=gbrp[c{number}];" for number in range(len(colours)))
    columns = "".join(f"[c{number}]" for number in range(len(colours)))
    graph = f"{labels}{columns}hstack=inputs={len(colours)}[all];[all]{convert}[out]"
    await _ffmpeg(*inputs, "-filter_complex", graph, "-map", "[out]", *encoding, str(path))


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
async def test_the_matrix_is_the_tagged_one_or_the_one_that_browsers_guess(
    sandbox: Sandbox, tmp_path: Path, size: int, matrix: str, tag: str | None
) -> None:
    path = tmp_path / "colours.mp4"
    convert = f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv444p,setparams=colorspace={tag or 'unknown'}"
    await _patches(path, COLOURS, size, convert, *X264, "-colorspace", tag or "unknown")
    poster = await _poster(sandbox, path)
    assert all(map(_near, _columns(poster, len(COLOURS)), COLOURS))


async def test_full_range_video_is_not_stretched(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "full.mp4"
    convert = "scale=out_color_matrix=bt601:out_range=pc,format=yuv444p,setparams=range=pc"
    await _patches(path, COLOURS, 64, convert, *X264, "-color_range", "pc")
    poster = await _poster(sandbox, path)
    assert all(map(_near, _columns(poster, len(COLOURS)), COLOURS))


async def test_display_p3_is_converted(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "p3.mp4"
    tags = "setparams=color_primaries=smpte432:color_trc=bt709:colorspace=bt709"
    convert = f"scale=out_color_matrix=bt709:out_range=tv,format=yuv444p,{tags}"
    encoding = ("-color_primaries", "smpte432", "-color_trc", "bt709", "-colorspace", "bt709")
    await _patches(path, [(210, 110, 60), (128, 128, 128)], 64, convert, *X264, *encoding)
    poster = await _poster(sandbox, path)
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
async def test_hdr_keeps_its_colours_and_comes_out_bright(
    sandbox: Sandbox, tmp_path: Path, transfer: str, primaries: str, matrix: str
) -> None:
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
    await _patches(path, colours, 64, convert, *X264, *tags)
    poster = await _poster(sandbox, path)
    white, grey, dark, red, green, blue = _columns(poster, len(colours))
    assert _near(white, _white_of_a_still(transfer), 2)
    assert all(max(each) - min(each) <= 3 for each in (white, grey, dark))
    assert white > grey > dark
    for found, expected in ((red, 0), (green, 1), (blue, 2)):
        others = [value for channel, value in enumerate(found) if channel != expected]
        assert found[expected] > 1.8 * max(others)
        assert abs(others[0] - others[1]) <= 12


async def test_fields_do_not_comb(sandbox: Sandbox, tmp_path: Path) -> None:
    """A white bar that moves 8 pixels from field to field: woven, its edges are combs of 8 pixels."""
    bar = "color=black:size=320x240:rate=50:duration=1,geq=lum='if(between(X-T*400,40,120),235,16)':cb=128:cr=128"
    progressive, interlaced = tmp_path / "progressive.mp4", tmp_path / "interlaced.mp4"
    await _ffmpeg("-f", "lavfi", "-i", bar, *X264, str(progressive))
    fields = ("-vf", "tinterlace=interleave_top", "-flags", "+ilme+ildct", "-x264-params", "tff=1")
    await _ffmpeg("-f", "lavfi", "-i", bar, *fields, *X264, str(interlaced))
    poster = await _poster(sandbox, interlaced)
    reference = await _poster(sandbox, progressive)
    wrong = sum(abs(one - other) > 100 for one, other in zip(poster.rgb, reference.rgb, strict=True))
    assert wrong / len(poster.rgb) < 0.005


async def _damaged(path: Path, start: int, codec: str) -> None:
    """Three seconds of video with 2000 damaged bytes from ``start`` of the media data on."""
    await _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10:duration=3", "-c:v", codec, str(path))
    _damage(path, start)


def _damage(path: Path, start: int) -> None:
    whole = path.read_bytes()
    first = whole.index(b"mdat") + 4 + start
    damage = bytes(byte * 7 + 13 & 0xFF for byte in whole[first : first + 2000])
    path.write_bytes(whole[:first] + damage + whole[first + 2000 :])


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
async def test_a_first_picture_that_decodes_only_with_errors_is_corrupt(
    sandbox: Sandbox, tmp_path: Path, codec: str
) -> None:
    await _damaged(tmp_path / "damaged.mp4", 2500, codec)
    assert await _rejection(sandbox, tmp_path / "damaged.mp4") is Reason.CORRUPT


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
async def test_damage_behind_the_first_key_picture_does_not_matter(
    sandbox: Sandbox, tmp_path: Path, codec: str
) -> None:
    await _damaged(tmp_path / "damaged.mp4", 20_000, codec)
    await _damaged(tmp_path / "sound.mp4", 1 << 20, codec)
    poster = await _poster(sandbox, tmp_path / "damaged.mp4")
    assert poster == await _poster(sandbox, tmp_path / "sound.mp4")


async def test_the_wrong_container_is_never_guessed(sandbox: Sandbox) -> None:
    assert await _rejection(sandbox, DATA / "webm-vp8.webm", MP4) is Reason.CORRUPT
    assert await _rejection(sandbox, DATA / "mp4-hevc.mp4", WEBM) is Reason.CORRUPT


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mp4-audio-only.mp4", Reason.NO_VIDEO),
        ("mp4-init-segment-no-frames.mp4", Reason.CORRUPT),
        ("fuzz-ffmpeg-h264-bad-read.mp4", Reason.CORRUPT),
        ("hls-ssrf-named.mp4", Reason.CORRUPT),
        ("mov-external-dref-alis.mov", Reason.CORRUPT),  # nothing of the other file was opened: see the sandbox's tests
    ],
)
async def test_broken_and_hostile_files(sandbox: Sandbox, name: str, reason: Reason) -> None:
    assert await _rejection(sandbox, DATA / name) is reason


async def test_a_cover_picture_is_not_a_video(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    inputs = ("-f", "lavfi", "-i", "sine=duration=1", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=1:duration=1")
    disposition = ("-map", "0", "-map", "1", "-c:v", "mjpeg", "-frames:v", "1", "-disposition:v", "attached_pic")
    await _ffmpeg(*inputs, *disposition, str(path))
    assert await _rejection(sandbox, path) is Reason.NO_VIDEO


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
async def test_sound_and_subtitles_change_nothing(
    sandbox: Sandbox, tmp_path: Path, name: str, codec: str, other: tuple[str, ...]
) -> None:
    upright, alone, path = (tmp_path / f"{each}{Path(name).suffix}" for each in ("upright", "alone", "path"))
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x32:rate=2:duration=1")
    looks = ("-vf", "setsar=2", "-color_range", "tv", "-colorspace", "bt709", "-color_trc", "bt709")
    await _ffmpeg(*picture, *looks, "-c:v", codec, str(upright))
    flip = () if path.suffix == ".mkv" else ("-display_hflip",)
    await _ffmpeg("-display_rotation", "90", *flip, "-i", str(upright), "-c", "copy", str(alone))
    beside = ("-i", str(words)) if name.startswith("words") else ("-f", "lavfi", "-i", "sine=duration=1")
    await _ffmpeg(*beside, "-i", str(alone), "-map", "0", "-map", "1", "-c:v", "copy", *other, str(path))
    expected = await _poster(sandbox, alone)
    assert await _poster(sandbox, path) == expected
    assert expected.height > expected.width


@pytest.mark.parametrize("codec", ["mpeg4", "h263"])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
async def test_a_size_that_only_a_frame_has_may_come_behind_sound(
    sandbox: Sandbox, tmp_path: Path, codec: str, suffix: str
) -> None:
    alone, path = tmp_path / f"alone.{suffix}", tmp_path / f"path.{suffix}"
    muxer = "3gp" if suffix == "mp4" else suffix  # the same boxes, and H.263 is allowed
    picture = ("-f", "lavfi", "-i", "testsrc2=size=176x144:rate=2:duration=1", "-c:v", codec)
    await _ffmpeg(*picture, "-f", muxer, str(alone))
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-map", "1", "-c:a", "aac")
    await _ffmpeg("-i", str(alone), *sound, "-map", "0", "-c:v", "copy", "-f", muxer, str(path))
    poster = await _poster(sandbox, path)
    assert poster.displayed == (176, 144)
    assert poster == await _poster(sandbox, alone)


async def test_exotic_sound_alone_is_no_video(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    await _ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "adpcm_ms", str(path))
    assert await _rejection(sandbox, path) is Reason.NO_VIDEO


async def test_an_exotic_codec_is_unsupported(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "animation.mov"
    await _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=1:duration=1", "-c:v", "qtrle", str(path))
    assert await _rejection(sandbox, path, MOV) is Reason.UNSUPPORTED_TYPE


async def test_pixels_are_counted_before_a_frame_is_decoded(sandbox: Sandbox) -> None:
    few = asdict(VideoBounds(max_pixels=1080 * 720 - 1))
    assert await _rejection(sandbox, DATA / "mp4-av1.mp4", bounds=few) is Reason.TOO_MANY_PIXELS


async def test_too_little_memory_is_a_limit_and_not_a_corrupt_file(sandbox: Sandbox) -> None:
    little: dict[str, Any] = {"granted_bytes": 8 << 20, "max_memory_bytes": 8 << 20}
    assert await _rejection(sandbox, DATA / "mp4-vp9-anamorphic.mp4", **little) is Reason.DECODER_LIMIT


async def test_a_job_that_was_granted_too_little_says_what_it_needs_and_writes_nothing(sandbox: Sandbox) -> None:
    with (DATA / "mp4-hevc.mp4").open("rb") as source, tempfile.TemporaryFile() as jpeg:
        fds = [source.fileno(), jpeg.fileno(), jpeg.fileno()]
        (needed,) = (await _job(sandbox, fds, MP4, granted_bytes=64 << 20)).items()
        assert needed[0] == "needed_bytes"
        assert os.fstat(jpeg.fileno()).st_size == 0
        assert "blurhash" in await _job(sandbox, fds, MP4, granted_bytes=needed[1])


@pytest.mark.parametrize("name", ["mp4-hevc-8k.mp4", "mp4-h264-4k60-portrait.mp4", "mp4-av1.mp4", "webm-vp9.webm"])
async def test_what_is_forecast_is_enough(sandbox: Sandbox, name: str) -> None:
    fmt = BY_EXTENSION[name.rpartition(".")[2]]
    with (DATA / name).open("rb") as source, tempfile.TemporaryFile() as jpeg:
        fds = [source.fileno(), jpeg.fileno(), jpeg.fileno()]
        needed = await _job(sandbox, fds, fmt, granted_bytes=64 << 20)
        assert "blurhash" in await _job(sandbox, fds, fmt, granted_bytes=min(needed["needed_bytes"], 1 << 30))


async def test_a_long_search_takes_no_more_memory_than_a_short_one(sandbox: Sandbox, tmp_path: Path) -> None:
    """Held frames of 25 samples would be 300 MB. Larger and deeper ones: `python -m tests.bench.poster.blank`."""
    path = tmp_path / "blank.mp4"
    make_blank(path, Blank("4k", "3840x2160", 6, ("-c:v", "libx264", "-preset", "ultrafast"), rate=4))
    assert not _is_black(await _poster(sandbox, path, granted_bytes=poster_bytes(3840 * 2160)))


async def test_an_aspect_that_only_the_coded_video_states_is_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    plain, stretched = tmp_path / "plain.mkv", tmp_path / "stretched.mkv"
    await _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=1200x32:rate=2:duration=1,setsar=0", *X264, str(plain))
    await _ffmpeg("-i", str(plain), "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=9/1", str(stretched))
    assert await _rejection(sandbox, stretched) is Reason.BAD_ASPECT
