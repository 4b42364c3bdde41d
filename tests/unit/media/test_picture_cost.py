"""The forecast of a decode's memory, and the refusal to begin one that was granted too little."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_EXTENSION, Family
from avion_media.media.jobs import picture_job
from mediascrub import PEEK_BYTES, Format, PictureBounds, ScrubError, peek, read_picture
from mediathumbs import picture_memory_bytes
from mediathumbs.tests.made import quadrants, saved

DATA = Path(__file__).parents[2] / "data"
FORMATS = [
    ("JPEG", Format.JPEG),
    ("PNG", Format.PNG),
    ("GIF", Format.GIF),
    ("WEBP", Format.WEBP),
    ("AVIF", Format.AVIF),
]
PICTURES = sorted(
    path.name
    for path in DATA.iterdir()
    if not path.name.startswith(("bomb-", "fuzz-", "html-", "svg-", "zip-", "zero-"))
    and path.suffix[1:] in BY_EXTENSION
    and BY_EXTENSION[path.suffix[1:]].family is Family.IMAGE
)


def forecast(data: bytes, fmt: Format) -> int | None:
    peeked = peek(data[:PEEK_BYTES], fmt)
    return picture_memory_bytes(peeked, fmt, len(data)) if peeked else None


def needed(data: bytes, fmt: Format) -> int:
    return picture_memory_bytes(read_picture(memoryview(data), fmt), fmt, len(data))


@pytest.mark.parametrize(("format_name", "fmt"), FORMATS)
def test_what_is_forecast_is_what_the_structure_says(format_name: str, fmt: Format) -> None:
    data = saved(quadrants(640, 480), format_name)
    assert forecast(data, fmt) == needed(data, fmt)


@pytest.mark.parametrize("name", PICTURES)
def test_a_real_picture_is_never_forecast_too_small(name: str) -> None:
    """Else it is decoded at the second go only."""
    data = (DATA / name).read_bytes()
    fmt = Format.PNG if data.startswith(b"\x89PNG") else Format(BY_EXTENSION[name.rpartition(".")[2]].name)
    try:
        found = needed(data, fmt)
    except ScrubError:
        return  # truncated and corrupt ones
    assert (forecast(data, fmt) or 0) >= found


def test_a_progressive_jpeg_costs_more() -> None:
    photograph = Image.effect_noise((600, 400), 60).convert("RGB")
    plain, progressive = (forecast(saved(photograph, "JPEG", progressive=each), Format.JPEG) for each in (False, True))
    assert plain is not None
    assert progressive is not None
    assert progressive - plain > 600 * 400 * 5


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS], ids=lambda fmt: fmt.value)
@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff", bytes(64), b"\xff" * 4096])
def test_noise_is_forecast_without_an_error(fmt: Format, data: bytes) -> None:
    assert forecast(data, fmt) is None or fmt in (Format.PNG, Format.GIF)


def _job(data: bytes, granted_bytes: int, max_memory_bytes: int = 1 << 30, fmt: Format = Format.PNG) -> dict[str, Any]:
    with (
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as original,
        tempfile.TemporaryFile() as manifest,
        tempfile.TemporaryFile() as thumbnail,
        tempfile.TemporaryFile() as webp,
    ):
        source.write(data)
        source.flush()
        arguments = {
            "format": fmt.value,
            "sizes": [["only", 64]],
            "quality": 80,
            "webp": "off",
            "bounds": asdict(PictureBounds()),
            "max_memory_bytes": max_memory_bytes,
            "keep_credentials": False,
        }
        files = [each.fileno() for each in (source, original, manifest, thumbnail, webp)]
        return picture_job(arguments | {"granted_bytes": granted_bytes}, files)


def test_too_small_a_grant_ends_before_the_decode() -> None:
    data = saved(quadrants(640, 480), "PNG")
    wanted = needed(data, Format.PNG)
    assert _job(data, wanted - 1) == {"needed_bytes": wanted}
    assert _job(data, wanted)["width"] == 640


def test_all_that_may_be_granted_is_tried() -> None:
    data = saved(quadrants(640, 480), "PNG")
    assert _job(data, 64 << 20, 64 << 20)["width"] == 640


def test_what_cannot_fit_decoded_is_refused_at_once() -> None:
    data = saved(quadrants(640, 480), "PNG")
    with pytest.raises(Rejected) as refused:
        _job(data, 1 << 30, 640 * 480 * 3 - 1)
    assert refused.value.reason is Reason.DECODER_LIMIT
    jpeg = saved(quadrants(640, 480), "JPEG")  # its decoder can shrink it
    assert _job(jpeg, 1 << 30, 640 * 480, Format.JPEG)["width"] == 640
