"""Every picture of the collection ends as its manifest says: thumbnails of the displayed size, or a stable reason."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.bounds import PictureBounds
from mediathumbs import ThumbnailSize, fit_within

from .made import DATA, inspect_image, process

SIZES = (ThumbnailSize("small", 400), ThumbnailSize("medium", 800), ThumbnailSize("large", 1600))

ACCEPTED = [
    ("apng-animated.png", Format.PNG, 100, 100, 20),
    ("avif-animated-exif-gps-xmp.avif", Format.AVIF, 150, 150, 5),
    ("avif-irot-imir.avif", Format.AVIF, 640, 427, 1),
    ("avif-still.avif", Format.AVIF, 768, 512, 1),
    ("bomb-gif-10k-frames-16x16.gif", Format.GIF, 16, 16, 10_000),
    ("bomb-png-ztxt.png", Format.PNG, 1, 1, 1),
    ("gif-animated.gif", Format.GIF, 80, 80, 30),
    ("heic-still-portrait.heic", Format.HEIC, 1080, 1920, 1),
    ("jpeg-apple-gainmap-mpf-p3.jpg", Format.JPEG, 384, 512, 1),
    ("jpeg-cmyk.jpg", Format.JPEG, 100, 100, 1),
    ("jpeg-dog-12mp-6.jpg", Format.JPEG, 3024, 4032, 1),
    ("jpeg-exif-thumbnail-differs.jpg", Format.JPEG, 320, 480, 1),
    ("jpeg-gray.jpg", Format.JPEG, 480, 320, 1),
    ("jpeg-motion-photo.jpg", Format.JPEG, 3024, 4032, 1),
    ("jpeg-named.tiff", Format.JPEG, 320, 240, 1),
    *((f"jpeg-orientation-{number}.jpg", Format.JPEG, 600, 450, 1) for number in range(1, 9)),
    ("jpeg-pixel4a-gps-gainmap.jpg", Format.JPEG, 400, 300, 1),
    ("jpeg-portrait-orientation-6.jpg", Format.JPEG, 450, 600, 1),
    ("jpeg-portrait-orientation-8.jpg", Format.JPEG, 450, 600, 1),
    ("jpeg-progressive.jpg", Format.JPEG, 1600, 1067, 1),
    ("mpo-stereo.mpo", Format.JPEG, 640, 480, 1),
    ("png-16bit.png", Format.PNG, 900, 600, 1),
    ("png-alpha-large.png", Format.PNG, 2048, 1536, 1),
    ("png-display-p3-patch.png", Format.PNG, 400, 300, 1),
    ("png-exif-gps-text.png", Format.PNG, 320, 480, 1),
    ("png-named.jpg", Format.PNG, 480, 320, 1),
    ("polyglot-gif-js.gif", Format.GIF, 10799, 64, 1),
    ("polyglot-jpeg-html.jpg", Format.JPEG, 480, 320, 1),
    ("polyglot-jpeg-zip.jpg", Format.JPEG, 480, 320, 1),
    ("webp-alpha.webp", Format.WEBP, 192, 192, 1),
    ("webp-animated.webp", Format.WEBP, 80, 80, 9),
    ("webp-lossy-icc.webp", Format.WEBP, 300, 225, 1),
    ("webp-orientation-6.webp", Format.WEBP, 128, 128, 1),
]

REFUSED = [
    ("bomb-gif-65535x66601.gif", Format.GIF, ScrubCode.BAD_DIMENSIONS),
    ("bomb-jpeg-sof-65500x65500.jpg", Format.JPEG, ScrubCode.TOO_MANY_PIXELS),
    ("bomb-png-header-lies-60000x60000.png", Format.PNG, ScrubCode.TOO_MANY_PIXELS),
    ("bomb-webp-16383x16383-lossless.webp", Format.WEBP, ScrubCode.TOO_MANY_PIXELS),
    ("fuzz-firefox-chrome-leak.jpg", Format.JPEG, ScrubCode.CORRUPT),
    ("heic-corrupted.heic", Format.HEIC, ScrubCode.CORRUPT),
    ("jpeg-corrupt-header.jpg", Format.JPEG, ScrubCode.CORRUPT),
    ("jpeg-truncated-half.jpg", Format.JPEG, ScrubCode.CORRUPT),
    ("png-truncated-half.png", Format.PNG, ScrubCode.CORRUPT),
    ("zero-byte.jpg", Format.JPEG, ScrubCode.EMPTY),
]


@pytest.mark.parametrize(("name", "fmt", "width", "height", "frames"), ACCEPTED)
def test_an_accepted_picture_gets_its_thumbnails(name: str, fmt: Format, width: int, height: int, frames: int) -> None:
    data = (DATA / name).read_bytes()

    result = process(data, fmt, SIZES, PictureBounds())

    header = result.facts
    assert (header.width, header.height, header.frames) == (width, height, frames)
    assert header.animated == (frames > 1)
    assert header == inspect_image(data, fmt, PictureBounds())
    assert list(result.thumbnails) == ["small", "medium", "large"]
    for size in SIZES:
        thumbnail = Image.open(io.BytesIO(result.thumbnails[size.name]), formats=["JPEG"])
        thumbnail.load()
        assert thumbnail.size == fit_within(width, height, size.longest_edge)
        assert thumbnail.mode in ("RGB", "L")
    assert len(result.blurhash) == 28


@pytest.mark.parametrize(("name", "fmt", "width", "height", "frames"), ACCEPTED)
def test_a_thumbnail_is_nothing_but_pixels(name: str, fmt: Format, width: int, height: int, frames: int) -> None:
    del width, height, frames

    result = process((DATA / name).read_bytes(), fmt, SIZES[:1], PictureBounds())

    thumbnail = Image.open(io.BytesIO(result.thumbnails["small"]), formats=["JPEG"])
    assert set(thumbnail.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert b"LEAK" not in result.thumbnails["small"]
    assert b"script" not in result.thumbnails["small"].lower()


@pytest.mark.parametrize(("name", "fmt", "reason"), REFUSED)
def test_a_refused_picture_has_its_reason(name: str, fmt: Format, reason: ScrubCode) -> None:
    with pytest.raises(ScrubError) as refusal:
        process((DATA / name).read_bytes(), fmt, SIZES, PictureBounds())
    assert refusal.value.code is reason


@pytest.mark.parametrize(("name", "fmt", "_width", "_height", "_frames"), ACCEPTED)
def test_the_content_is_held_to_the_format_it_is_said_to_have(
    name: str, fmt: Format, _width: int, _height: int, _frames: int
) -> None:
    data = (DATA / name).read_bytes()
    for other in (Format.JPEG, Format.PNG, Format.GIF, Format.WEBP):
        if other != fmt:
            with pytest.raises(ScrubError) as refusal:
                inspect_image(data, other, PictureBounds())
            assert refusal.value.code is ScrubCode.CORRUPT


@pytest.mark.parametrize(
    ("name", "fmt", "duration_s"),
    [
        ("apng-animated.png", Format.PNG, 1.5),
        ("avif-animated-exif-gps-xmp.avif", Format.AVIF, 0.83),
        ("gif-animated.gif", Format.GIF, 0.9),
        ("webp-animated.webp", Format.WEBP, 0.9),
        ("jpeg-gray.jpg", Format.JPEG, 0.0),
        ("polyglot-gif-js.gif", Format.GIF, 0.0),
    ],
)
def test_an_animation_has_its_duration(name: str, fmt: Format, duration_s: float) -> None:
    header = inspect_image((DATA / name).read_bytes(), fmt, PictureBounds())
    assert header.duration_s == pytest.approx(duration_s, abs=0.01)
