"""One reading of a picture gives its facts and its original, and both say the same."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from mediascrub import Format, Picture, ScrubCode, ScrubError, read_picture
from mediascrub.bounds import PictureBounds

from .made_files import picture, saved
from .samples import DATA, PICTURES


def _read(content: bytes, fmt: Format) -> Picture:
    return read_picture(memoryview(content), fmt, PictureBounds())


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_served_is_read_as_what_was_uploaded(name: str) -> None:
    picture = _read((DATA / name).read_bytes(), PICTURES[name])
    assert _read(picture.original, PICTURES[name]) == picture


@pytest.mark.parametrize(("fmt", "format_name"), [(Format.GIF, "GIF"), (Format.PNG, "PNG"), (Format.AVIF, "AVIF")])
def test_frames_that_the_original_lacks_do_not_count(fmt: Format, format_name: str) -> None:
    frames = [picture(24, 16).rotate(90 * turns) for turns in range(4)]
    animated = saved(frames[0], format_name, save_all=True, append_images=frames[1:], duration=100)
    whole = _read(animated, fmt)
    assert (whole.frames, round(whole.duration_s, 3)) == (4, 0.4)
    if fmt is Format.GIF:
        third = animated.index(b"!\xf9", animated.index(b"!\xf9", animated.index(b"!\xf9") + 1) + 1)
        broken = _read(animated[:third] + b"\x77" + animated[third:], fmt)
        assert (broken.frames, round(broken.duration_s, 3)) == (2, 0.2)
        assert _read(broken.original, fmt) == broken


@pytest.mark.parametrize("method", [10, 11], ids=["compression", "filter"])
def test_a_png_of_an_unknown_method_is_refused(method: int) -> None:
    plain = saved(Image.new("L", (1, 1)), "PNG")
    assert _read(plain, Format.PNG).width == 1
    damaged = bytearray(plain)
    damaged[16 + method] = 1
    with pytest.raises(ScrubError) as refused:
        _read(bytes(damaged), Format.PNG)
    assert refused.value.code is ScrubCode.CORRUPT


def test_no_imaging_library_reads_or_peeks() -> None:
    """They can run where no decoder may."""
    code = "import sys, mediascrub; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert not {"PIL", "pillow_heif", "pyvips"} & set(loaded.split())
