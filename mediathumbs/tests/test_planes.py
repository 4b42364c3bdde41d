"""Pictures in planes: they look as Pillow shows them, in every sampling, size and orientation."""

from __future__ import annotations

import ctypes
import io
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mediascrub import Format, read_picture
from mediascrub.bounds import PictureBounds
from mediascrub.picture import Picture
from mediathumbs import ThumbnailSize, fit_within, vips
from mediathumbs.pictures import make_thumbnails
from mediathumbs.pixels import Pixels
from mediathumbs.planes import Planes, decode_planes, in_planes, with_its_end

vips.allow_png()
vips.allow_webp()
SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2, "4:4:0": 4, "4:1:1": 5}  # as turbojpeg.h numbers them


def _photograph(width: int, height: int) -> Image.Image:
    """Smooth, with colours that change in both directions, and a diagonal edge."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    edge = np.where(x > y, 60, 0)
    channels = (180 * x + edge, 160 * y + edge, 190 * (1 - x) * y + edge)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8), "RGB")


def _jpeg(image: Image.Image, sampling: str = "4:2:0", orientation: int = 1) -> Picture:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    if SAMPLINGS[sampling] <= 2:
        image.save(out, "JPEG", quality=95, subsampling=sampling, exif=exif)
    else:
        out.write(_by_turbojpeg(image.convert("RGB"), SAMPLINGS[sampling]))
    return read_picture(memoryview(out.getvalue()), Format.JPEG, PictureBounds())


def _webp(image: Image.Image, orientation: int = 1, **options: Any) -> Picture:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(out, "WEBP", quality=95, exif=exif if orientation != 1 else b"", **options)
    return read_picture(memoryview(out.getvalue()), Format.WEBP, PictureBounds())


def _png(image: Image.Image, orientation: int = 1, **options: Any) -> Picture:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(out, "PNG", exif=exif if orientation != 1 else b"", **options)
    return read_picture(memoryview(out.getvalue()), Format.PNG, PictureBounds())


def _by_turbojpeg(image: Image.Image, sampling: int) -> bytes:
    """A JPEG of a sampling that Pillow does not write."""
    library = ctypes.CDLL("libturbojpeg.so.0")
    library.tjInitCompress.restype = ctypes.c_void_p
    data, length = ctypes.c_void_p(), ctypes.c_ulong()
    done = library.tjCompress2(
        ctypes.c_void_p(library.tjInitCompress()), image.tobytes(), image.width, 0, image.height, 0,
        ctypes.byref(data), ctypes.byref(length), sampling, 95, 0,
    )  # fmt: skip
    assert done == 0
    return ctypes.string_at(data, length.value)


def _differences(found: Image.Image, original: Image.Image) -> Any:
    """The difference of each sample to what Pillow makes of the original."""
    out = io.BytesIO()
    original.resize(found.size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=95, subsampling="4:2:0")
    one, other = (np.asarray(each, dtype=np.int16) for each in (found, Image.open(out)))
    return np.abs(one - other)


def _difference(found: Image.Image, original: Image.Image) -> float:
    """The mean difference of a sample to what Pillow makes of the original."""
    return float(_differences(found, original).mean())


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(640, 480), (333, 217), (1, 1), (97, 400), (1001, 131)])
def test_every_sampling_and_size_looks_as_pillow_shows_it(sampling: str, size: tuple[int, int]) -> None:
    image = _photograph(*size)
    picture = _jpeg(image, sampling)
    assert isinstance(decode_planes(picture, size), Planes)
    shown = Image.open(io.BytesIO(picture.still))
    made = make_thumbnails(picture, [ThumbnailSize("whole", 4000), ThumbnailSize("small", 120)], quality=95)
    for name in ("whole", "small"):
        found = Image.open(io.BytesIO(made.by_name[name]))
        assert found.mode == "RGB"
        assert _difference(found, shown) < 3


@pytest.mark.parametrize("size", [(640, 480), (333, 217), (1, 1), (97, 400), (1001, 131), (1, 33), (33, 1)])
@pytest.mark.parametrize("edge", [4000, 120])
def test_a_picture_of_another_format_looks_as_pillow_shows_it(size: tuple[int, int], edge: int) -> None:
    image, out = _photograph(*size), io.BytesIO()
    image.save(out, "PNG")
    picture = read_picture(memoryview(out.getvalue()), Format.PNG, PictureBounds())
    made = make_thumbnails(picture, [ThumbnailSize("large", edge), ThumbnailSize("small", 60)], quality=95)
    for each in made.by_name.values():
        assert _difference(Image.open(io.BytesIO(each)), image) < 3


@pytest.mark.parametrize("size", [(640, 480), (333, 217), (1, 1), (97, 400), (1001, 131), (1, 33), (33, 1)])
def test_a_lossy_webp_looks_as_pillow_shows_it(size: tuple[int, int]) -> None:
    picture = _webp(_photograph(*size))
    assert isinstance(decode_planes(picture, size), Planes)
    shown = Image.open(io.BytesIO(picture.still))
    made = make_thumbnails(picture, [ThumbnailSize("whole", 4000), ThumbnailSize("small", 120)], quality=95)
    for name in ("whole", "small"):
        assert _difference(Image.open(io.BytesIO(made.by_name[name])), shown) < 3


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_black_gray_and_white_of_a_webp_stay(shade: int) -> None:
    made = make_thumbnails(_webp(Image.new("RGB", (64, 48), (shade,) * 3)), [ThumbnailSize("only", 32)], quality=95)
    found = np.asarray(Image.open(io.BytesIO(made.by_name["only"])), dtype=np.int16)
    assert np.abs(found - shade).max() <= 2


def _squares(width: int, height: int) -> Image.Image:
    """Red and blue squares, which differ in chroma more than in luma."""
    red = np.random.default_rng(1).integers(0, 2, (height // 16 + 1, width // 16 + 1, 1))
    small = np.where(red, (200, 60, 60), (60, 80, 220)).astype(np.uint8)
    return Image.fromarray(small.repeat(16, 0).repeat(16, 1)[:height, :width])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(601, 401), (600, 401), (333, 217)])
def test_colours_stay_on_their_edges_at_odd_sizes(size: tuple[int, int], orientation: int) -> None:
    picture = _jpeg(_squares(*size), orientation=orientation)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(picture.still)))
    made = make_thumbnails(picture, [ThumbnailSize("whole", 4000), ThumbnailSize("small", 267)], quality=95)
    for name in ("whole", "small"):
        assert _difference(Image.open(io.BytesIO(made.by_name[name])), shown) < 4


@pytest.mark.parametrize("width", [20, 30, 50])
def test_colours_of_a_narrow_thumbnail_are_those_of_the_picture(width: int) -> None:
    halves = np.zeros((4000, width, 3), np.uint8)
    halves[:, : width // 2], halves[:, width // 2 :] = (60, 60, 220), (200, 30, 30)
    made = make_thumbnails(_png(Image.fromarray(halves)), [ThumbnailSize("large", 1600), ThumbnailSize("small", 400)])
    for each in made.by_name.values():
        found = np.asarray(Image.open(io.BytesIO(each)), dtype=np.int16)
        assert np.abs(found.mean((0, 1)) - halves.mean((0, 1))).max() < 8


@pytest.mark.parametrize("write", [_jpeg, _webp, _png])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("size", "edge"),
    [((640, 480), 200), ((333, 217), 200), ((333, 222), 400), ((384, 221), 400), ((666, 442), 333)],
    ids=str,
)
def test_every_orientation_is_turned_as_pillow_turns_it(
    write: Any, orientation: int, size: tuple[int, int], edge: int
) -> None:
    """No row or column is elsewhere, also if a side of the thumbnail is odd."""
    image = _photograph(*size)
    picture = write(image, orientation=orientation)
    assert isinstance(decode_planes(picture, size), Planes)
    made = make_thumbnails(picture, [ThumbnailSize("only", edge)], quality=95)
    image.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(image)
    found = Image.open(io.BytesIO(made.by_name["only"]))
    assert found.size == fit_within(*upright.size, edge)
    differences = _differences(found, upright)
    assert differences.mean(axis=(1, 2)).max() < 3
    assert differences.mean(axis=(0, 2)).max() < 3


def test_a_decoder_reduces_a_large_picture() -> None:
    picture = _jpeg(_photograph(1600, 1200))
    for wanted, size in (((800, 600), (800, 600)), ((700, 525), (800, 600)), ((801, 601), (1600, 1200))):
        planes = decode_planes(picture, wanted)
        assert planes is not None
        assert planes.size == size


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_edges_of_odd_sizes_are_the_picture_s_own(sampling: str) -> None:
    """The encoder reads an even number of columns and rows: what follows the picture must not shine through."""
    white = Image.new("RGB", (33, 21), "white")
    made = make_thumbnails(_jpeg(white, sampling), [ThumbnailSize("only", 100)], quality=95)
    assert np.asarray(Image.open(io.BytesIO(made.by_name["only"]))).min() >= 253


def test_what_is_damaged_is_left_to_pillow() -> None:
    picture = _jpeg(_photograph(640, 480))
    data = bytearray(picture.still)
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff\xd9" * 20
    assert decode_planes(replace(picture, still=bytes(data)), (640, 480)) is None


def test_only_a_lossy_opaque_still_of_webp_comes_into_planes() -> None:
    image = _photograph(64, 48)
    half = image.copy()
    half.putalpha(128)
    animation = _webp(image, save_all=True, append_images=[image.rotate(180)])
    pictures = [_webp(image), _webp(image, orientation=6), _webp(image, lossless=True), _webp(half), animation]
    assert [picture.ycbcr for picture in pictures] == [True, True, False, False, False]


@pytest.mark.parametrize("damage", ["cut", "another size", "another frame", "nothing"])
def test_a_damaged_webp_is_left_to_libvips(damage: str) -> None:
    picture = _webp(_photograph(640, 480))
    data = picture.still
    frame_size = 26  # where the key frame has its width
    damaged = {
        "cut": _riff(data[: len(data) // 2]),
        "another size": data[:frame_size] + (632).to_bytes(2, "little") + data[frame_size + 2 :],
        "another frame": data[:20] + bytes([data[20] | 1]) + data[21:],
        "nothing": _riff(data[:30]),
    }[damage]
    assert decode_planes(replace(picture, still=damaged), (640, 480)) is None


def _riff(data: bytes) -> bytes:
    """The file with lengths that fit what is there."""
    data = data[: len(data) // 2 * 2]
    return (
        data[:4]
        + (len(data) - 8).to_bytes(4, "little")
        + data[8:16]
        + (len(data) - 20).to_bytes(4, "little")
        + data[20:]
    )


@pytest.mark.parametrize("filter_type", range(5))
def test_every_filter_of_a_png_is_undone(filter_type: int) -> None:
    image = _photograph(97, 61)
    samples, rows = np.asarray(image).astype(int), b""
    for y, row in enumerate(samples):
        left = np.vstack((np.zeros((1, 3), int), row[:-1]))
        above = samples[y - 1] if y else np.zeros_like(row)
        corner = np.vstack((np.zeros((1, 3), int), above[:-1]))
        guess = left + above - corner
        distances = np.stack([np.abs(guess - each) for each in (left, above, corner)])
        paeth = np.choose(distances.argmin(axis=0), (left, above, corner))
        predicted = (np.zeros_like(row), left, above, (left + above) // 2, paeth)[filter_type]
        rows += bytes([filter_type]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
    planes = decode_planes(_of_rows(_png(image), rows), image.size)
    expected = in_planes(Pixels.of_pillow(image))
    assert isinstance(planes, Planes)
    assert isinstance(expected, Planes)
    assert planes.jpeg(95) == expected.jpeg(95)


def _of_rows(picture: Picture, rows: bytes) -> Picture:
    """The PNG with other rows. Checksums are not looked at."""
    compressed = zlib.compress(rows)
    head = picture.still[:33] + len(compressed).to_bytes(4, "big") + b"IDAT"
    return replace(picture, still=head + compressed + bytes(4) + picture.still[-12:])


def test_a_png_with_rows_of_no_filter_or_too_few_of_them_is_left_to_libvips() -> None:
    picture = _png(_photograph(97, 61))
    row = bytes(1 + 3 * 97)
    assert decode_planes(_of_rows(picture, row * 61), (97, 61)) is not None
    assert decode_planes(_of_rows(picture, row * 60 + b"\x05" + row[1:]), (97, 61)) is None
    for rows in (row * 60, row * 62, row * 61 + b"\0", row * 61 + row[1:]):
        assert decode_planes(_of_rows(picture, rows), (97, 61)) is None
    damaged = bytearray(picture.still)
    damaged[-24] ^= 1
    assert decode_planes(replace(picture, still=bytes(damaged)), (97, 61)) is None
    assert decode_planes(replace(picture, still=picture.still[:-200]), (97, 61)) is None


def test_only_a_plain_png_comes_into_planes() -> None:
    image = _photograph(64, 48)
    for mode in ("L", "LA", "P", "RGBA", "1"):
        assert decode_planes(_png(image.convert(mode)), image.size) is None
    assert decode_planes(_png(image, transparency=(1, 2, 3)), image.size) is None
    assert decode_planes(replace(_png(image), width=4000, height=4001), image.size) is None


def test_a_png_does_not_come_into_planes_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = _png(_photograph(64, 48))
    assert decode_planes(picture, (64, 48)) is not None
    monkeypatch.setattr(vips, "ALLOWED", set())
    assert decode_planes(picture, (64, 48)) is None


def test_gray_is_left_to_pillow() -> None:
    assert decode_planes(_jpeg(_photograph(64, 48).convert("L")), (64, 48)) is None


def test_only_opaque_rgb_comes_into_planes() -> None:
    for mode in ("RGB", "L", "RGBA"):
        pixels = Pixels.of_pillow(_photograph(64, 48).convert(mode))
        assert isinstance(in_planes(pixels), Planes if mode == "RGB" else Pixels)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_gets_it(progressive: bool) -> None:
    out = io.BytesIO()
    _photograph(333, 200).save(out, "JPEG", progressive=progressive)
    data = out.getvalue()
    whole = read_picture(memoryview(data), Format.JPEG)
    assert with_its_end(whole) is whole
    assert with_its_end(read_picture(memoryview(data[:-2]), Format.JPEG)) == whole
    for cut in (10, 100, len(data) // 2):
        picture = read_picture(memoryview(data[:-cut]), Format.JPEG)
        assert with_its_end(picture) is picture
