"""WebP chunks, one rule each."""

from __future__ import annotations

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
    refused,
    riff_chunk,
    saved,
    webp,
)
from .samples import decode

PLAIN = saved(picture(), "WEBP")
IMAGE = PLAIN[12:]
ANIMATED = saved(picture(), "WEBP", save_all=True, append_images=[picture().rotate(90)], duration=70, loop=2)
OTHER = saved(picture().rotate(180), "WEBP")[12:]
FRAME = ANIMATED[ANIMATED.index(b"ANMF") :]
ICC, ALPHA, EXIF, XMP, ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02


def scrubbed(content: bytes) -> bytes:
    after = original_of(content, Format.WEBP)
    assert original_of(after, Format.WEBP) == after
    return after


def features(flags: int, behind: bytes = b"") -> bytes:
    return riff_chunk(b"VP8X", bytes((flags, 0, 0, 0, 47, 0, 0, 31, 0, 0)) + behind)


def test_clean_files_are_left_alone_and_what_follows_the_container_goes() -> None:
    for clean in (PLAIN, ANIMATED, saved(picture(mode="RGBA"), "WEBP"), saved(picture(), "WEBP", lossless=True)):
        assert scrubbed(clean) == clean
        assert scrubbed(clean + LEAK) == clean


def test_a_simple_file_is_its_first_chunk() -> None:
    assert scrubbed(webp(IMAGE, riff_chunk(b"EXIF", LEAK), riff_chunk(b"XMP ", LEAK), IMAGE)) == PLAIN


def test_chunks_that_are_not_on_the_list_go_and_the_flags_tell_the_truth() -> None:
    content = webp(
        features(ICC | EXIF | XMP | 0xC1, behind=LEAK),
        riff_chunk(b"ICCP", LEAK * 20),
        riff_chunk(b"C2PA", LEAK),
        IMAGE,
        riff_chunk(b"EXIF", b"Exif\0\0" + oriented(1, behind=LEAK)),
        riff_chunk(b"XMP ", LEAK),
        riff_chunk(b"oddy", LEAK + b"!"),
        b"left",
    )
    assert scrubbed(content) == webp(features(0), IMAGE)


@pytest.mark.parametrize(
    ("before", "behind"),
    [(b"", OTHER), (b"", riff_chunk(b"ALPH", LEAK)), (b"", FRAME), (FRAME, b"")],
    ids=["a second picture", "opacity behind it", "a frame behind it", "a frame before it"],
)
def test_of_a_still_only_the_picture_stays_that_is_shown(before: bytes, behind: bytes) -> None:
    content = webp(features(0), before, IMAGE, behind)
    assert scrubbed(content) == webp(features(0), IMAGE)
    assert read_picture(memoryview(content), Format.WEBP, PictureBounds()).frames == 1


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_orientation_stays_alone(prefix: bytes) -> None:
    exif = riff_chunk(b"EXIF", prefix + oriented(8, "<", behind=LEAK))
    after = scrubbed(webp(features(0), IMAGE, exif))
    assert after == webp(features(EXIF), IMAGE, riff_chunk(b"EXIF", oriented(8)))
    assert decode(after, Format.WEBP).orientation == 8


def test_a_profile_stays() -> None:
    content = saved(picture(), "WEBP", icc_profile=SRGB_PROFILE, exif=b"Exif\0\0" + oriented(1), xmp=LEAK)
    after = scrubbed(content)
    assert decode(after, Format.WEBP) == decode(content, Format.WEBP)
    assert decode(after, Format.WEBP).icc_profile == CLEAN_PROFILE
    assert LEAK not in after


def test_chunks_inside_frames_go_too() -> None:
    start = ANIMATED.index(b"ANMF")
    length = int.from_bytes(ANIMATED[start + 4 : start + 8], "little")
    frame = ANIMATED[start + 8 : start + 8 + length]
    rest = ANIMATED[start + 8 + length :]
    leaky = webp(ANIMATED[12:start], riff_chunk(b"ANMF", frame + riff_chunk(b"meta", LEAK)), rest)
    assert decode(leaky, Format.WEBP) == decode(ANIMATED, Format.WEBP)
    assert scrubbed(leaky) == ANIMATED


@pytest.mark.parametrize(
    "content",
    [
        PLAIN[:-2],
        PLAIN[:12],
        webp(),
        webp(riff_chunk(b"JUNK", LEAK), IMAGE),
        webp(features(0)),
        webp(riff_chunk(b"VP8X", b"\0\0"), IMAGE),
        webp(features(0), riff_chunk(b"ICCP", SRGB_PROFILE)),
        webp(IMAGE[:-4]),
        b"RIFF\x02\0\0\0WEBP",
        b"RIFX" + PLAIN[4:],
    ],
)
def test_what_has_no_whole_image_is_corrupt(content: bytes) -> None:
    assert refused(content, Format.WEBP) is ScrubCode.CORRUPT
