"""Pictures come out upright, turned exactly once, whatever carries the orientation."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from avion_media.domain.formats import AVIF, HEIC, JPEG, PNG, WEBP
from avion_media.media.image import ImageBounds, inspect_image
from avion_media.media.image.exif import orientation_of
from tests.unit.image.made import (
    TO_STORED,
    assert_quadrants,
    chunk,
    exif_with_orientation,
    quadrants,
    saved,
    thumbnail_of,
    with_chunks,
)

DATA = Path(__file__).parents[2] / "data"
ORIENTATIONS = range(1, 9)


def stored(orientation: int) -> Image.Image:
    method = TO_STORED[orientation]
    return quadrants() if method is None else quadrants().transpose(method)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_in_a_jpeg(orientation: int) -> None:
    data = saved(stored(orientation), "JPEG", quality=95, exif=b"Exif\0\0" + exif_with_orientation(orientation))
    thumbnail = thumbnail_of(data, JPEG)
    assert thumbnail.size == (96, 64)
    assert_quadrants(thumbnail)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_in_a_png(orientation: int) -> None:
    data = with_chunks(saved(stored(orientation), "PNG"), chunk(b"eXIf", exif_with_orientation(orientation)))
    assert_quadrants(thumbnail_of(data, PNG))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_in_a_webp(orientation: int) -> None:
    data = saved(stored(orientation), "WEBP", lossless=True, exif=exif_with_orientation(orientation, "<"))
    assert_quadrants(thumbnail_of(data, WEBP))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rotation_boxes_of_an_avif(orientation: int) -> None:
    # Pillow's encoder writes irot and imir for the orientation it is given.
    data = saved(stored(orientation), "AVIF", quality=95, exif=exif_with_orientation(orientation))
    assert_quadrants(thumbnail_of(data, AVIF))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rotation_boxes_of_a_heic(orientation: int) -> None:
    heif = pillow_heif.from_pillow(stored(orientation))
    heif[0].info["exif"] = b"Exif\0\0" + exif_with_orientation(orientation)  # its encoder writes irot and imir for it
    out = io.BytesIO()
    heif.save(out, quality=95)
    assert_quadrants(thumbnail_of(out.getvalue(), HEIC), tolerance=10)


@pytest.mark.parametrize("number", range(2, 9))
def test_the_same_scene_in_all_orientations_gives_the_same_thumbnail(number: int) -> None:
    first, other = (
        np.asarray(thumbnail_of((DATA / f"jpeg-orientation-{each}.jpg").read_bytes(), JPEG), dtype=np.int16)
        for each in (1, number)
    )
    # The scenes differ by their painted number and by compression; a wrong turn would differ by about 70.
    assert float(np.abs(first - other).mean()) < 6


def test_rotation_and_mirror_boxes_together() -> None:
    thumbnail = thumbnail_of((DATA / "avif-irot-imir.avif").read_bytes(), AVIF)
    upper, lower = (np.asarray(thumbnail)[rows].mean(axis=(0, 1)) for rows in (slice(0, 60), slice(-60, None)))
    assert upper[2] > lower[2] + 60  # the sky is above the field


def test_an_odd_sized_picture_keeps_its_colours_in_place_when_turned() -> None:
    image = quadrants(97, 65).transpose(Image.Transpose.ROTATE_90)
    data = saved(image, "JPEG", quality=95, exif=b"Exif\0\0" + exif_with_orientation(6))
    thumbnail = thumbnail_of(data, JPEG, longest_edge=51)
    assert thumbnail.size == (51, 34)
    assert_quadrants(thumbnail)


def test_the_header_tells_the_size_as_displayed() -> None:
    data = saved(stored(8), "JPEG", exif=b"Exif\0\0" + exif_with_orientation(8))
    header = inspect_image(data, JPEG, ImageBounds())
    assert (header.width, header.height) == (96, 64)


def test_an_orientation_in_xmp_alone_does_not_count() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert_quadrants(thumbnail_of(saved(quadrants(), "JPEG", quality=95, xmp=xmp), JPEG))


def test_the_embedded_exif_thumbnail_is_never_used() -> None:
    pixels = np.asarray(thumbnail_of((DATA / "jpeg-exif-thumbnail-differs.jpg").read_bytes(), JPEG), dtype=np.int16)
    magenta = (np.abs(pixels - np.array([255, 0, 255])).max(axis=2) < 60).mean()
    assert magenta < 0.01


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_is_read_in_both_byte_orders(orientation: int, order: str) -> None:
    assert orientation_of(exif_with_orientation(orientation, order)) == orientation
    assert orientation_of(b"Exif\0\0" + exif_with_orientation(orientation, order)) == orientation


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif",
        b"Exif\0\0MM\0*",
        b"MM\0*\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        exif_with_orientation(0),
        exif_with_orientation(9),
        exif_with_orientation(6)[:-8],
        exif_with_orientation(6).replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02"),  # ASCII, not SHORT
        exif_with_orientation(6).replace(b"\x01\x12\x00\x03", b"\x01\x13\x00\x03"),  # another tag
        b"XX" + exif_with_orientation(6)[2:],
    ],
)
def test_a_damaged_exif_block_means_upright(exif: bytes) -> None:
    assert orientation_of(exif) == 1
