"""What thumbnails are made: their sizes, their number, their quality; frames of videos alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mediascrub import Format, read_picture
from mediascrub.bounds import PictureBounds
from mediascrub.picture import UPRIGHT
from mediathumbs import ThumbnailSize, Webp, fit_within
from mediathumbs.pictures import make_thumbnails as make
from mediathumbs.pictures import thumbnails_of_frame

from .made import DATA, assert_quadrants, process, quadrants, saved
from .ssim import luma_ssim

SIZES = (ThumbnailSize("small", 40), ThumbnailSize("medium", 80), ThumbnailSize("large", 160))


def opened(thumbnail: bytes) -> Image.Image:
    return Image.open(io.BytesIO(thumbnail), formats=["JPEG"])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (161, 97), (97, 161), (160, 160), (641, 479)])
def test_aspect_is_kept_and_nothing_enlarged(size: tuple[int, int]) -> None:
    for format_name, fmt in (("JPEG", Format.JPEG), ("PNG", Format.PNG), ("WEBP", Format.WEBP)):
        result = process(saved(quadrants(*size), format_name), fmt, SIZES, PictureBounds(max_aspect=500))
        for each in SIZES:
            assert opened(result.thumbnails[each.name]).size == fit_within(*size, each.longest_edge)


def test_the_order_of_sizes_does_not_matter() -> None:
    data = saved(quadrants(400, 300), "PNG")
    forth = process(data, Format.PNG, SIZES, PictureBounds())
    back = process(data, Format.PNG, SIZES[::-1], PictureBounds())
    assert forth.thumbnails == back.thumbnails
    assert forth.blurhash == back.blurhash
    assert list(back.thumbnails) == ["large", "medium", "small"]


def test_a_small_picture_has_the_same_thumbnail_in_every_size() -> None:
    result = process(saved(quadrants(32, 24), "PNG"), Format.PNG, SIZES, PictureBounds())
    assert len(set(result.thumbnails.values())) == 1
    assert opened(result.thumbnails["small"]).size == (32, 24)


def test_higher_quality_takes_more_bytes() -> None:
    noise = Image.effect_noise((200, 150), 60).convert("RGB")
    low, high = (
        process(saved(noise, "PNG"), Format.PNG, SIZES, PictureBounds(), quality=each).thumbnails["large"]
        for each in (40, 90)
    )
    assert len(low) < len(high)


def test_a_thumbnail_that_would_be_too_large_has_a_lower_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = saved(Image.effect_noise((200, 150), 60).convert("RGB"), "PNG")
    full = process(noise, Format.PNG, SIZES, PictureBounds(), quality=90).thumbnails["large"]
    monkeypatch.setattr("mediathumbs.pictures.MAX_THUMBNAIL_BYTES", len(full) // 2)
    smaller = process(noise, Format.PNG, SIZES, PictureBounds(), quality=90).thumbnails["large"]
    assert len(full) // 8 < len(smaller) <= len(full) // 2


@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
def test_thumbnails_are_as_good_as_a_full_decode_scaled_by_lanczos(format_name: str) -> None:
    photograph = Image.open(DATA / "jpeg-dog-12mp-6.jpg").convert("RGB").resize((2016, 1512), Image.Resampling.LANCZOS)
    photograph.info.clear()
    data = saved(photograph, format_name, quality=95)
    sizes = (ThumbnailSize("large", 800), ThumbnailSize("medium", 400), ThumbnailSize("small", 200))
    result = process(data, Format.JPEG if format_name == "JPEG" else Format.PNG, sizes, PictureBounds())
    full = Image.open(io.BytesIO(data)).convert("RGB")
    for each in sizes:
        reference = full.resize(fit_within(*full.size, each.longest_edge), Image.Resampling.LANCZOS)
        compressed = opened(saved(reference, "JPEG", quality=80))
        ours = luma_ssim(opened(result.thumbnails[each.name]), reference)
        assert ours > luma_ssim(compressed, reference) - 0.004


def test_colours_lie_where_luma_lies() -> None:
    # Chroma is halved: an edge must stay within a pixel of the luma edge at every size.
    result = process(saved(quadrants(640, 480), "PNG"), Format.PNG, SIZES, PictureBounds(), quality=95)
    for each in SIZES:
        thumbnail = np.asarray(opened(result.thumbnails[each.name]).convert("RGB"), dtype=np.int16)
        middle, row = thumbnail.shape[1] // 2, thumbnail[thumbnail.shape[0] // 4]
        assert np.abs(row[middle - 3] - np.array([220, 40, 40])).max() < 25
        assert np.abs(row[middle + 2] - np.array([40, 180, 60])).max() < 25


def test_a_frame_of_a_video_gives_what_a_picture_gives() -> None:
    frame = quadrants(320, 240)
    made = thumbnails_of_frame(frame.copy(), SIZES, 80, "off", None, UPRIGHT)
    result = process(saved(frame, "GIF"), Format.GIF, SIZES, PictureBounds())
    assert made.by_name == result.thumbnails
    assert made.blurhash == result.blurhash
    assert_quadrants(opened(made.by_name["large"]), tolerance=10)


def _opacity(size: tuple[int, int], mode: str) -> Image.Image:
    """A picture of one colour, opaque on its left, clear on its right, half and half in the middle."""
    image = Image.new(mode, size, (200, 40, 80, 255) if mode == "RGBA" else (120, 255))
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(size))
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("format_name", "fmt"), [("PNG", Format.PNG), ("WEBP", Format.WEBP)])
def test_a_transparent_picture_keeps_its_transparency_as_webp(format_name: str, fmt: Format, mode: str) -> None:
    image = _opacity((320, 200), mode)
    options = {"lossless": True, "exact": True} if format_name == "WEBP" else {}
    picture = read_picture(memoryview(saved(image, format_name, **options)), fmt, PictureBounds())
    made = make(picture, SIZES, 90, "alpha").by_name
    assert list(made) == ["small", "medium", "large", "small.webp", "medium.webp", "large.webp"]
    for each in SIZES:
        webp = Image.open(io.BytesIO(made[f"{each.name}.webp"]), formats=["WEBP"])
        assert webp.size == fit_within(320, 200, each.longest_edge)
        ours = np.asarray(webp.convert("RGBA"), dtype=np.int16)
        ought = np.asarray(image.convert("RGBA").resize(webp.size, Image.Resampling.LANCZOS), dtype=np.int16)
        assert np.abs(ours[:, :, 3] - ought[:, :, 3]).mean() < 3
        seen = ought[:, :, 3] > 64
        assert np.abs(ours[:, :, :3] - ought[:, :, :3])[seen].mean() < 6
        assert opened(made[each.name]).size == webp.size


_CASES: tuple[tuple[bool, Webp, bool], ...] = (
    (False, "alpha", False), (True, "alpha", True), (False, "all", True), (True, "off", False),
)  # fmt: skip


def test_which_pictures_get_webp_is_a_setting() -> None:
    opaque = read_picture(memoryview(saved(quadrants(200, 100).convert("RGBA"), "PNG")), Format.PNG, PictureBounds())
    clear = read_picture(memoryview(saved(_opacity((200, 100), "RGBA"), "PNG")), Format.PNG, PictureBounds())
    for transparent, webp, has in _CASES:
        made = make(clear if transparent else opaque, SIZES, 80, webp).by_name
        assert ("small.webp" in made) is has
    frame = quadrants(64, 48)
    assert "small.webp" not in thumbnails_of_frame(frame.copy(), SIZES, 80, "alpha", None, UPRIGHT).by_name
    assert "small.webp" in thumbnails_of_frame(frame.copy(), SIZES, 80, "all", None, UPRIGHT).by_name
