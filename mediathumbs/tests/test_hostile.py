"""Whatever the bytes: `ScrubError` or thumbnails, never another exception; and no file is opened to get there."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mediascrub import Format, ScrubCode, ScrubError, VideoBounds, peek, read_picture
from mediascrub.bounds import PictureBounds
from mediathumbs import ThumbnailSize, make_poster, make_thumbnails, make_waveform
from mediathumbs.damage import judging_damage

from .made import DATA, chunk, exif_with_orientation, png_of_samples, process, quadrants, saved

ONE = [ThumbnailSize("only", 64)]
SMALL = PictureBounds(max_pixels=1_000_000, max_frames=50)

ANIMATED = {"save_all": True, "append_images": [quadrants().convert("L").convert("RGB")], "duration": 50}
PROFILE = (DATA / "png-display-p3-patch.png").read_bytes()[:64]
SAMPLES: list[tuple[Format, bytes]] = [
    (Format.JPEG, saved(quadrants(), "JPEG", exif=b"Exif\0\0" + exif_with_orientation(6), icc_profile=PROFILE)),
    (Format.JPEG, saved(quadrants(), "JPEG", progressive=True)),
    (Format.JPEG, saved(quadrants().convert("CMYK"), "JPEG")),
    (Format.PNG, saved(quadrants(), "PNG", exif=exif_with_orientation(3), icc_profile=PROFILE)),
    (Format.PNG, saved(quadrants().quantize(16), "PNG", transparency=3)),
    (Format.PNG, saved(quadrants(), "PNG", **ANIMATED)),
    (Format.GIF, saved(quadrants(), "GIF", **ANIMATED)),
    (Format.WEBP, saved(quadrants(), "WEBP", lossless=True, exif=exif_with_orientation(2))),
    (Format.WEBP, saved(quadrants(), "WEBP", **ANIMATED)),
    (Format.AVIF, saved(quadrants(), "AVIF", exif=exif_with_orientation(5))),
    (Format.AVIF, saved(quadrants(), "AVIF", **ANIMATED)),
]
REASONS = {
    ScrubCode.EMPTY,
    ScrubCode.CORRUPT,
    ScrubCode.UNSUPPORTED,
    ScrubCode.BAD_DIMENSIONS,
    ScrubCode.BAD_ASPECT,
    ScrubCode.TOO_MANY_PIXELS,
    ScrubCode.TOO_MANY_FRAMES,
}


def outcome(data: bytes, fmt: Format) -> ScrubCode | None:
    """None for a picture that was accepted."""
    try:
        process(data, fmt, ONE, SMALL)
    except ScrubError as refusal:
        return refusal.code
    return None


@settings(max_examples=300, derandomize=True)
@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_changed_bytes(sample: tuple[Format, bytes], data: st.DataObject) -> None:
    fmt, original = sample
    broken = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, broken[at] ^ 1)))
    assert outcome(bytes(broken), fmt) in REASONS | {None}


@settings(max_examples=200, derandomize=True)
@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_removed_and_repeated_bytes(sample: tuple[Format, bytes], data: st.DataObject) -> None:
    fmt, original = sample
    start, end = sorted((data.draw(st.integers(0, len(original))), data.draw(st.integers(0, len(original)))))
    assert outcome(original[:start] + original[end:], fmt) in REASONS | {None}
    assert outcome(original[:end] + original[start:], fmt) in REASONS | {None}


@settings(max_examples=200, derandomize=True)
@given(noise=st.binary(max_size=200), sample=st.sampled_from(SAMPLES), keep=st.integers(0, 40))
def test_noise_after_a_signature(noise: bytes, sample: tuple[Format, bytes], keep: int) -> None:
    fmt, original = sample
    assert outcome(original[:keep] + noise, fmt) in REASONS | {None}


SIGNATURES: list[tuple[Format, bytes]] = [
    (Format.JPEG, b"\xff\xd8\xff"),
    (Format.PNG, b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + bytes(17)),
    (Format.GIF, b"GIF89a"),
    (Format.WEBP, b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0"),
    (Format.AVIF, b"\0\0\0\x14ftypavif\0\0\0\0avif"),
]


@settings(max_examples=300, derandomize=True)
@given(noise=st.binary(max_size=300), sample=st.sampled_from(SIGNATURES))
def test_the_readers_raise_nothing_but_their_own_error(noise: bytes, sample: tuple[Format, bytes]) -> None:
    fmt, signature = sample
    peek(signature + noise, fmt)
    with suppress(ScrubError):
        read_picture(memoryview(signature + noise), fmt, SMALL)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_picture_that_breaks_off_is_corrupt(share: float) -> None:
    photograph = Image.effect_noise((300, 200), 80).convert("RGB")
    for format_name, fmt in (
        ("JPEG", Format.JPEG),
        ("PNG", Format.PNG),
        ("WEBP", Format.WEBP),
        ("AVIF", Format.AVIF),
        ("GIF", Format.GIF),
    ):
        data = saved(photograph, format_name)
        assert outcome(data, fmt) is None
        assert outcome(data[: int(len(data) * share)], fmt) is ScrubCode.CORRUPT, format_name


def _flushed(rows: bytes) -> bytes:
    deflater = zlib.compressobj()
    return deflater.compress(rows) + deflater.flush(zlib.Z_SYNC_FLUSH)


def _png(compressed: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


_ROWS = b"".join(b"\0" + bytes((3 * x * y + x) & 255 for x in range(64)) for y in range(48))


@pytest.mark.parametrize(
    "compress",
    [
        lambda rows: zlib.compress(rows)[:-4],
        lambda rows: zlib.compress(rows)[:-2],
        lambda rows: zlib.compress(rows)[:-4] + b"LEAK",
        _flushed,
    ],
    ids=["no checksum", "half a checksum", "a wrong checksum", "no last block"],
)
def test_a_png_with_all_of_its_rows_is_shown_however_its_compression_ends(compress: Callable[[bytes], bytes]) -> None:
    """Browsers draw each row as it comes, so visitors see all of the picture."""
    shown = process(_png(compress(_ROWS)), Format.PNG, ONE, SMALL)
    assert shown == replace(process(_png(zlib.compress(_ROWS)), Format.PNG, ONE, SMALL), original=shown.original)
    assert outcome(_png(compress(_ROWS[:-1])), Format.PNG) is ScrubCode.CORRUPT


_BEFORE_THE_CHECKSUM = -(12 + 4)  # of the last IDAT, behind which is only IEND


@pytest.mark.parametrize(
    "end",
    [
        lambda png: _png(zlib.compress(_ROWS)[:-4])[:-14],
        lambda png: png[:-14],
        lambda png: png[:_BEFORE_THE_CHECKSUM] + b"LEAK" + png[-12:],
    ],
    ids=["cut off with no checksum of zlib", "cut off", "wrong"],
)
def test_a_png_with_all_of_its_rows_is_shown_whatever_the_checksum_of_its_chunk(end: Callable[[bytes], bytes]) -> None:
    sound = _png(zlib.compress(_ROWS))
    shown = process(end(sound), Format.PNG, ONE, SMALL)
    assert shown == replace(process(sound, Format.PNG, ONE, SMALL), original=shown.original)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_with_a_flipped_bit_is_corrupt(channels: int, share: float) -> None:
    """Its rows are not compressed, so that they are still there: only checksums show the damage."""
    row = bytes(64 * channels)
    png = bytearray(png_of_samples((64, 48), 8, 0 if channels == 1 else 2, [row] * 48, level=0))
    assert outcome(bytes(png), Format.PNG) is None
    start, end = png.index(b"IDAT") + 4, len(png) + _BEFORE_THE_CHECKSUM
    png[start + int(share * (end - start))] ^= 1
    assert outcome(bytes(png), Format.PNG) is ScrubCode.CORRUPT


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_png_with_an_unknown_compression_method_is_refused(mode: str) -> None:
    """By its header, or by that of its compressed rows. No viewer shows it."""
    data = saved(quadrants(640, 480).convert(mode), "PNG")
    header, rows = data.index(b"IHDR"), data.index(b"IDAT")
    end = rows + 4 + int.from_bytes(data[rows - 4 : rows], "big")
    by_header = data[: header - 4] + chunk(b"IHDR", data[header + 4 : header + 14] + b"\1\0\0") + data[header + 21 :]
    by_rows = data[: rows - 4] + chunk(b"IDAT", b"\x79\x18" + data[rows + 6 : end]) + data[end + 4 :]
    assert outcome(data, Format.PNG) is None
    assert outcome(by_header, Format.PNG) is outcome(by_rows, Format.PNG) is ScrubCode.CORRUPT


def test_an_animation_that_breaks_off_after_its_first_frame_is_shown() -> None:
    frames = [Image.effect_noise((100, 80), 80).convert("RGB") for _ in range(4)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    assert outcome(data[: int(len(data) * 0.8)], Format.GIF) is None


def test_a_jpeg_of_very_many_scans_is_refused_but_not_for_what_follows_its_end() -> None:
    jpeg = saved(quadrants(), "JPEG", progressive=True)
    last_scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert outcome(jpeg[:-2] + last_scan * 120 + jpeg[-2:], Format.JPEG) is ScrubCode.UNSUPPORTED
    assert outcome(jpeg[:-2] + last_scan * 20 + jpeg[-2:], Format.JPEG) is None
    assert outcome(jpeg + last_scan * 120, Format.JPEG) is None


@pytest.mark.parametrize(
    ("format_name", "fmt", "before", "filler"),
    [
        ("JPEG", Format.JPEG, b"\xff\xdb", b"\0"),
        ("GIF", Format.GIF, b"!\xf9\x04", b"!\xfe\1a\0"),
        ("PNG", Format.PNG, b"IDAT", chunk(b"tEXt", b"a\0b")),
    ],
)
def test_what_is_no_pixel_does_not_reach_the_decoder(
    format_name: str, fmt: Format, before: bytes, filler: bytes
) -> None:
    data = saved(quadrants(), format_name, **(ANIMATED if fmt == Format.GIF else {}))
    at = data.index(before) - (4 if fmt == Format.PNG else 0)  # a PNG chunk begins with its length
    padded = data[:at] + filler * 20_000 + data[at:]
    assert len(read_picture(memoryview(padded), fmt, SMALL).still) <= len(data)
    assert outcome(padded, fmt) is None


def test_two_readings_of_one_size_are_one_too_many() -> None:
    # A second frame header before the scan: whoever believes the first sees another picture than who believes the last.
    jpeg = saved(quadrants(96, 64), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    length = 2 + int.from_bytes(jpeg[frame + 2 : frame + 4], "big")
    other = bytearray(jpeg[frame : frame + length])
    other[5:9] = b"\0\x10\0\x10"
    assert outcome(jpeg[:frame] + bytes(other) + jpeg[frame:], Format.JPEG) is ScrubCode.CORRUPT


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Image.DecompressionBombError("too large"), ScrubCode.TOO_MANY_PIXELS),
        (OSError("broken data stream"), ScrubCode.CORRUPT),
        (IndexError(), ScrubCode.CORRUPT),
        (ScrubError(ScrubCode.BAD_DIMENSIONS), ScrubCode.BAD_DIMENSIONS),
    ],
)
def test_exceptions_of_decoders_have_their_reason(error: Exception, reason: ScrubCode) -> None:
    with pytest.raises(ScrubError) as refusal, judging_damage():
        raise error
    assert refusal.value.code is reason


def test_a_mistake_of_the_caller_is_no_damage() -> None:
    data = saved(quadrants(), "JPEG")
    picture = read_picture(memoryview(data), Format.JPEG)
    for sizes, quality in (([], 80), (ONE, 0), (ONE, 100)):
        with pytest.raises(ValueError, match="expected at least one size"):
            make_thumbnails(picture, sizes, quality)
    with pytest.raises(ValueError, match="jpeg is not one of mp4, mov, webm, mkv"):
        make_poster(-1, Format.JPEG, "V:0", ONE, bounds=VideoBounds())
    with pytest.raises(ValueError, match="mp4 is not one of mp3"):
        make_waveform(-1, Format.MP4, ONE, max_duration_s=1)


def test_a_lack_of_memory_is_no_damage() -> None:
    with pytest.raises(MemoryError), judging_damage():
        raise MemoryError


def test_heic_without_its_library_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ScrubError) as refused:
        process((DATA / "heic-still-portrait.heic").read_bytes(), Format.HEIC, ONE, PictureBounds())
    assert refused.value.code is ScrubCode.UNSUPPORTED


UNALLOWED = """
import sys
import mediathumbs.vips
import pyvips
for name, load in (
    ("png-16bit.png", pyvips.Image.pngload_buffer),
    ("webp-alpha.webp", pyvips.Image.webpload_buffer),
    ("gif-animated.gif", pyvips.Image.gifload_buffer),
):
    try:
        load(open(f"{sys.argv[1]}/{name}", "rb").read())
    except pyvips.Error as error:
        assert "blocked" in str(error), error
    else:
        raise AssertionError(name)
"""


def test_libvips_decodes_nothing_that_was_not_allowed() -> None:
    """`make_thumbnails` would refuse it before; but such a decoder must not be reachable at all."""
    done = subprocess.run([sys.executable, "-c", UNALLOWED, str(DATA)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


IN_THE_SANDBOX = """
import sys
from pathlib import Path
import pillow_heif
from mediathumbs import ThumbnailSize, make_poster, make_thumbnails, make_waveform
from mediascrub import Format, PictureBounds, read_picture
from mediathumbs import vips
from mediathumbs.pictures import make_thumbnails

vips.allow_png()
vips.allow_webp()
jobs = [(name, Format(fmt), Path(sys.argv[1], name).read_bytes()) for name, fmt in (
    ("jpeg-apple-gainmap-mpf-p3.jpg", "jpeg"), ("jpeg-cmyk.jpg", "jpeg"), ("png-exif-gps-text.png", "png"),
    ("png-16bit.png", "png"), ("gif-animated.gif", "gif"), ("webp-lossy-icc.webp", "webp"),
    ("avif-irot-imir.avif", "avif"), ("heic-still-portrait.heic", "heic"),
)]
events = []
sys.addaudithook(lambda event, details: events.append((event, details[0])) if event in ("open", "import") else None)
for name, fmt, data in jobs:
    make_thumbnails(read_picture(memoryview(data), fmt, PictureBounds()), [ThumbnailSize("only", 64)])
    assert not events, (name, events)
"""


def test_no_module_and_no_file_is_opened_once_the_package_is_imported() -> None:
    """The sandbox closes after the import: a late import would fail there, and cost every job its time elsewhere."""
    done = subprocess.run([sys.executable, "-c", IN_THE_SANDBOX, str(DATA)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
