"""Bounds hold before anything is decoded, and counting frames decodes none."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.bounds import PictureBounds
from mediascrub.picture import bounded_parts
from mediathumbs import ThumbnailSize

from .made import DATA, chunk, inspect_image, png_of_samples, process, quadrants, saved

ONE = [ThumbnailSize("only", 400)]


def refusal_of(data: bytes, fmt: Format, bounds: PictureBounds | None = None) -> ScrubCode:
    """The reason, which must be the same for the header alone and for thumbnails."""
    with pytest.raises(ScrubError) as by_header:
        inspect_image(data, fmt, bounds or PictureBounds())
    with pytest.raises(ScrubError) as by_thumbnails:
        process(data, fmt, ONE, bounds or PictureBounds())
    assert by_header.value.code is by_thumbnails.value.code
    return by_header.value.code


FORMATS = [
    ("JPEG", Format.JPEG),
    ("PNG", Format.PNG),
    ("GIF", Format.GIF),
    ("WEBP", Format.WEBP),
    ("AVIF", Format.AVIF),
]


@pytest.mark.parametrize(("format_name", "fmt"), FORMATS)
def test_each_bound_is_inclusive(format_name: str, fmt: Format) -> None:
    data = saved(quadrants(96, 64), format_name)
    exact = PictureBounds(max_pixels=96 * 64, max_frames=1, max_side=96)
    assert inspect_image(data, fmt, exact).width == 96
    assert refusal_of(data, fmt, PictureBounds(max_pixels=96 * 64 - 1)) is ScrubCode.TOO_MANY_PIXELS
    assert refusal_of(data, fmt, PictureBounds(max_side=95)) is ScrubCode.BAD_DIMENSIONS


def test_a_refusal_names_the_pixels_and_the_limit() -> None:
    with pytest.raises(ScrubError, match="6144 pixels, more than 6143"):
        PictureBounds(max_pixels=96 * 64 - 1).check_size(96, 64)


@pytest.mark.parametrize(("format_name", "fmt"), [each for each in FORMATS if each[0] != "JPEG"])
def test_frames_are_counted_and_bounded(format_name: str, fmt: Format) -> None:
    frames = [Image.new("RGB", (16, 16), (40 * index, 0, 0)) for index in range(5)]
    out = io.BytesIO()
    frames[0].save(out, format_name, save_all=True, append_images=frames[1:], duration=200)
    data = out.getvalue()

    header = inspect_image(data, fmt, PictureBounds(max_frames=5))
    assert (header.frames, header.animated) == (5, True)
    assert header.duration_s == pytest.approx(1.0)
    assert refusal_of(data, fmt, PictureBounds(max_frames=4)) is ScrubCode.TOO_MANY_FRAMES


def test_ten_thousand_frames_cost_no_decoding() -> None:
    data = (DATA / "bomb-gif-10k-frames-16x16.gif").read_bytes()
    assert inspect_image(data, Format.GIF, PictureBounds()).frames == 10_000
    assert refusal_of(data, Format.GIF, PictureBounds(max_frames=9_999)) is ScrubCode.TOO_MANY_FRAMES


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("bomb-gif-65535x66601.gif", Format.GIF),
        ("bomb-jpeg-sof-65500x65500.jpg", Format.JPEG),
        ("bomb-png-header-lies-60000x60000.png", Format.PNG),
        ("bomb-webp-16383x16383-lossless.webp", Format.WEBP),
    ],
)
def test_a_bomb_is_refused_before_memory_is_taken_for_it(name: str, fmt: Format) -> None:
    data = (DATA / name).read_bytes()
    before = resident_kib()
    tracemalloc.start()
    refusal_of(data, fmt)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20
    assert resident_kib() - before < 20 << 10


def resident_kib() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (0, 0)])
def test_a_side_of_zero_is_refused(width: int, height: int) -> None:
    png = png_of_samples((width, height), 8, 0, [b""])
    assert refusal_of(png, Format.PNG) is ScrubCode.BAD_DIMENSIONS
    jpeg = bytearray(saved(quadrants(), "JPEG"))
    frame_header = jpeg.index(b"\xff\xc0")
    jpeg[frame_header + 5 : frame_header + 9] = struct.pack(">HH", height, width)
    assert refusal_of(bytes(jpeg), Format.JPEG) is ScrubCode.BAD_DIMENSIONS


def test_text_bombs_in_a_png_are_never_inflated() -> None:
    result = process((DATA / "bomb-png-ztxt.png").read_bytes(), Format.PNG, ONE, PictureBounds())
    assert result.facts.width == 1


@pytest.mark.parametrize(("marker", "precision"), [(0xC3, 8), (0xC9, 8), (0xC1, 12)])
def test_jpeg_processes_that_browsers_do_not_decode_are_unsupported(marker: int, precision: int) -> None:
    jpeg = bytearray(saved(quadrants(), "JPEG"))
    frame_header = jpeg.index(b"\xff\xc0")
    jpeg[frame_header + 1] = marker
    jpeg[frame_header + 4] = precision
    assert refusal_of(bytes(jpeg), Format.JPEG) is ScrubCode.UNSUPPORTED


def test_nothing_has_its_own_reason() -> None:
    assert refusal_of(b"", Format.JPEG) is ScrubCode.EMPTY


def test_a_still_apng_does_not_move() -> None:
    control = chunk(b"acTL", struct.pack(">II", 1, 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 96, 64, 0, 0, 1, 10, 0, 0))
    png = saved(quadrants(), "PNG")
    header = inspect_image(png[:33] + control + frame + png[33:], Format.PNG, PictureBounds())
    assert (header.frames, header.duration_s, header.animated) == (1, 0.0, False)


def test_a_file_in_too_many_parts_is_given_up() -> None:
    with pytest.raises(ScrubError) as refusal:
        for _ in bounded_parts():
            pass
    assert refusal.value.code is ScrubCode.CORRUPT


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
def test_any_kind_of_buffer_will_do(view: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    assert process(view(saved(quadrants(), "PNG")), Format.PNG, ONE, PictureBounds()).facts.width == 96


@pytest.mark.parametrize(("format_name", "fmt"), FORMATS)
@pytest.mark.parametrize("size", [(201, 1), (1, 201)])
def test_the_aspect_is_bounded(format_name: str, fmt: Format, size: tuple[int, int]) -> None:
    data = saved(Image.new("RGB", size), format_name)
    assert refusal_of(data, fmt) is ScrubCode.BAD_ASPECT
    assert inspect_image(data, fmt, PictureBounds(max_aspect=201)).width == size[0]


@pytest.mark.parametrize(("format_name", "fmt"), [("PNG", Format.PNG), ("GIF", Format.GIF), ("WEBP", Format.WEBP)])
def test_the_playing_time_is_bounded(format_name: str, fmt: Format) -> None:
    frames = [Image.new("RGB", (16, 16), (40 * index, 0, 0)) for index in range(5)]
    data = saved(frames[0], format_name, save_all=True, append_images=frames[1:], duration=2000)
    assert inspect_image(data, fmt, PictureBounds(max_duration_s=10.0)).duration_s == pytest.approx(10.0)
    assert refusal_of(data, fmt, PictureBounds(max_duration_s=9.9)) is ScrubCode.TOO_LONG
