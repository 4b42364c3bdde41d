"""The forecast of a decode's memory, and the refusal to begin one that was granted too little."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import AVIF, BY_EXTENSION, GIF, JPEG, PNG, WEBP, Family, MediaFormat
from avion_media.domain.media import ThumbnailSize
from avion_media.media.bounds import PictureBounds
from avion_media.media.image import NeedsMoreMemory, forecast_bytes, make_thumbnails
from avion_media.media.image.cost import decoding_bytes
from avion_media.media.image.header import read_outline
from tests.unit.image.made import quadrants, saved

DATA = Path(__file__).parents[2] / "data"
FORMATS = [("JPEG", JPEG), ("PNG", PNG), ("GIF", GIF), ("WEBP", WEBP), ("AVIF", AVIF)]
ONE = [ThumbnailSize("only", 64)]
PICTURES = sorted(
    path.name
    for path in DATA.iterdir()
    if not path.name.startswith(("bomb-", "fuzz-", "html-", "svg-", "zip-", "zero-"))
    and path.suffix[1:] in BY_EXTENSION
    and BY_EXTENSION[path.suffix[1:]].family is Family.IMAGE
)


def forecast(data: bytes, fmt: MediaFormat) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        at = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        found = forecast_bytes(file.fileno(), fmt, len(data))
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == at
    return found


@pytest.mark.parametrize(("format_name", "fmt"), FORMATS)
def test_what_is_forecast_is_what_the_structure_says(format_name: str, fmt: MediaFormat) -> None:
    data = saved(quadrants(640, 480), format_name)
    assert forecast(data, fmt) == decoding_bytes(fmt, read_outline(data, fmt, PictureBounds()), len(data))


@pytest.mark.parametrize("name", PICTURES)
def test_a_real_picture_is_never_forecast_too_small(name: str) -> None:
    """Else it is decoded at the second go only."""
    data = (DATA / name).read_bytes()
    fmt = PNG if data.startswith(b"\x89PNG") else BY_EXTENSION[name.rpartition(".")[2]]
    try:
        outline = read_outline(data, fmt, PictureBounds())
    except Rejected:
        return  # truncated and corrupt ones
    assert forecast(data, fmt) >= decoding_bytes(fmt, outline, len(data))


def test_a_progressive_jpeg_costs_more() -> None:
    photograph = Image.effect_noise((600, 400), 60).convert("RGB")
    plain, progressive = (saved(photograph, "JPEG", progressive=each) for each in (False, True))
    assert forecast(progressive, JPEG) - forecast(plain, JPEG) > 600 * 400 * 5


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff", bytes(64), b"\xff" * 4096])
def test_noise_is_forecast_without_an_error(fmt: MediaFormat, data: bytes) -> None:
    assert forecast(data, fmt) > 0


def test_too_small_a_grant_ends_before_the_decode() -> None:
    data = saved(quadrants(640, 480), "PNG")
    needed = decoding_bytes(PNG, read_outline(data, PNG, PictureBounds()), len(data))
    with pytest.raises(NeedsMoreMemory) as more:
        make_thumbnails(data, PNG, ONE, PictureBounds(), granted_bytes=needed - 1)
    assert more.value.needed_bytes == needed
    assert make_thumbnails(data, PNG, ONE, PictureBounds(), granted_bytes=needed).thumbnails


def test_all_that_may_be_granted_is_tried() -> None:
    data = saved(quadrants(640, 480), "PNG")
    bounds = PictureBounds(max_memory_bytes=64 << 20)
    assert make_thumbnails(data, PNG, ONE, bounds, granted_bytes=64 << 20).thumbnails


def test_what_cannot_fit_decoded_is_refused_at_once() -> None:
    data = saved(quadrants(640, 480), "PNG")
    with pytest.raises(Rejected) as refused:
        make_thumbnails(data, PNG, ONE, PictureBounds(max_memory_bytes=640 * 480 * 3 - 1))
    assert refused.value.reason is Reason.DECODER_LIMIT
    assert make_thumbnails(
        saved(quadrants(640, 480), "JPEG"), JPEG, ONE, PictureBounds(max_memory_bytes=640 * 480)
    ).thumbnails
