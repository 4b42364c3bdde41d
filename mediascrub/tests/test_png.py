"""PNG chunks, one rule each."""

from __future__ import annotations

import zlib

import pytest

from mediascrub import Format, ScrubCode, read_picture
from mediascrub.bounds import PictureBounds

from .made_files import (
    CLEAN_PROFILE,
    LEAK,
    SRGB_PROFILE,
    oriented,
    original_of,
    picture,
    png_chunk,
    refused,
    saved,
)
from .samples import decode

PLAIN = saved(picture(), "PNG")
IHDR_END, IDAT = 33, PLAIN.index(b"IDAT") - 4
IEND = PLAIN.index(b"IEND") - 4


def scrubbed(content: bytes) -> bytes:
    after = original_of(content, Format.PNG)
    assert original_of(after, Format.PNG) == after
    return after


def with_chunks(*chunks: bytes, at: int = IHDR_END) -> bytes:
    return PLAIN[:at] + b"".join(chunks) + PLAIN[at:]


@pytest.mark.parametrize(
    "kind", [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"caBX", b"dSIG", b"vpAg", b"prVt", b"iDOT", b"hIST", b"sPLT", b"gIFx"]
)
@pytest.mark.parametrize("at", [IHDR_END, IEND])
def test_a_chunk_that_is_not_on_the_list_goes(kind: bytes, at: int) -> None:
    assert scrubbed(with_chunks(png_chunk(kind, b"key\0" + LEAK), at=at)) == PLAIN


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (b"gAMA", bytes(3) + b"\x01"),
        (b"cHRM", bytes(32)),
        (b"sRGB", b"\0"),
        (b"cICP", b"\x0c\x0d\0\x01"),
        (b"mDCV", bytes(24)),
        (b"cLLI", bytes(8)),
        (b"sBIT", b"\x08\x08\x08"),
        (b"pHYs", bytes(9)),
        (b"bKGD", bytes(6)),
    ],
)
def test_colour_and_size_stay_but_nothing_rides_on_them(kind: bytes, payload: bytes) -> None:
    kept = with_chunks(png_chunk(kind, payload))
    assert scrubbed(kept) == kept
    assert scrubbed(with_chunks(png_chunk(kind, payload), png_chunk(kind, payload))) == kept
    assert scrubbed(with_chunks(png_chunk(kind, payload + LEAK * 4))) == PLAIN


@pytest.mark.parametrize("at", [IHDR_END, IEND])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_orientation_stays_alone(at: int, prefix: bytes) -> None:
    after = scrubbed(with_chunks(png_chunk(b"eXIf", prefix + oriented(6, "<", behind=LEAK)), at=at))
    assert after == with_chunks(png_chunk(b"eXIf", oriented(6)), at=IDAT)
    assert decode(after, Format.PNG).orientation == 6
    assert scrubbed(with_chunks(png_chunk(b"eXIf", oriented(1, behind=LEAK)), at=at)) == PLAIN


def test_a_profile_stays_under_a_neutral_name() -> None:
    content = with_chunks(png_chunk(b"iCCP", LEAK + b"\0\0" + zlib.compress(SRGB_PROFILE)))
    after = scrubbed(content)
    assert LEAK not in after
    assert decode(after, Format.PNG).icc_profile == CLEAN_PROFILE


@pytest.mark.parametrize(
    "payload",
    [
        LEAK,
        LEAK + b"\0",
        LEAK + b"\0\x01" + zlib.compress(SRGB_PROFILE),
        LEAK + b"\0\0" + LEAK,
        LEAK + b"\0\0" + zlib.compress(LEAK * 100),
        LEAK + b"\0\0" + zlib.compress(bytes(50_000_000)),
    ],
)
def test_what_is_no_profile_goes(payload: bytes) -> None:
    assert scrubbed(with_chunks(png_chunk(b"iCCP", payload))) == PLAIN


def test_what_follows_the_end_goes() -> None:
    assert scrubbed(PLAIN + LEAK) == PLAIN
    assert scrubbed(PLAIN[:IEND] + png_chunk(b"IEND", LEAK) + PLAIN) == PLAIN


def test_an_animation_stays() -> None:
    frames = [picture().rotate(angle) for angle in (90, 180)]
    animated = saved(picture(), "PNG", save_all=True, append_images=frames, duration=[40, 50, 60], loop=3)
    assert scrubbed(animated) == animated


@pytest.mark.parametrize("control", [b"", png_chunk(b"acTL", bytes(9))], ids=["no control", "an unreadable one"])
@pytest.mark.parametrize("at", [IHDR_END, IEND])
def test_frames_go_from_what_is_no_animation(at: int, control: bytes) -> None:
    frames = png_chunk(b"fcTL", bytes(25) + b"\1") * 2 + png_chunk(b"fdAT", LEAK)
    content = with_chunks(control, frames, at=at)
    assert scrubbed(content) == PLAIN
    assert read_picture(memoryview(content), Format.PNG, PictureBounds()).frames == 1


def test_the_control_of_an_animation_does_not_count_behind_the_picture() -> None:
    frames = png_chunk(b"fcTL", bytes(26)) * 2 + png_chunk(b"fdAT", LEAK)
    assert scrubbed(with_chunks(png_chunk(b"acTL", bytes(8)), frames, at=IEND)) == PLAIN


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA", "RGBA", "I;16"])
def test_every_kind_of_pixels_stays(mode: str) -> None:
    image = picture().convert("L").convert("I").convert(mode) if mode == "I;16" else picture(mode=mode)
    content = saved(image, "PNG", **({"transparency": 3} if mode == "P" else {}))
    assert decode(scrubbed(content), Format.PNG) == decode(content, Format.PNG)


@pytest.mark.parametrize("cut", [4, 13, 60])
def test_a_file_that_is_cut_off_stays_so(cut: int) -> None:
    after = scrubbed(with_chunks(png_chunk(b"tEXt", LEAK))[:-cut])
    assert LEAK not in after
    assert PLAIN.startswith(after)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN[:8],
        PLAIN[:30],
        PLAIN[:IDAT],
        PLAIN[1:],
        PLAIN[:8] + PLAIN[IDAT:],
        PLAIN[:8] + png_chunk(b"CgBI", bytes(4)) + PLAIN[8:],
        PLAIN[:8] + png_chunk(b"IHDR", bytes(14)) + PLAIN[IDAT:],
        PLAIN[:IDAT] + PLAIN[IEND:],
        PLAIN[:IDAT] + b"\xff\xff\xff\xfftEXt" + PLAIN[IDAT:],
    ],
)
def test_what_has_no_header_and_pixels_is_corrupt(content: bytes) -> None:
    assert refused(content, Format.PNG) is ScrubCode.CORRUPT
