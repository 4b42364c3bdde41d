"""JPEG segments, one rule each."""

from __future__ import annotations

import struct

import pytest

from mediascrub import Format, PictureBounds, ScrubCode, read_picture
from mediascrub.exif import read_exif

from .made_files import (
    CLEAN_PROFILE,
    LEAK,
    jpeg_segment,
    oriented,
    original_of,
    picture,
    refused,
    saved,
    tiff,
)
from .samples import decode

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
PLAIN = saved(picture(), "JPEG")
COMMENT = jpeg_segment(0xFE, LEAK)


def scrubbed(content: bytes) -> bytes:
    after = original_of(content, Format.JPEG)
    assert original_of(after, Format.JPEG) == after
    return after


def behind_soi(*segments: bytes, jpeg: bytes = PLAIN) -> bytes:
    return SOI + b"".join(segments) + jpeg[2:]


def before_every_scan(jpeg: bytes, segment: bytes) -> bytes:
    return jpeg.replace(b"\xff\xda", segment + b"\xff\xda")


def exif(block: bytes) -> bytes:
    return jpeg_segment(0xE1, b"Exif\0\0" + block)


@pytest.mark.parametrize("marker", [0xE0, 0xE1, 0xE2, 0xE3, 0xE5, 0xEB, 0xEC, 0xED, 0xEE, 0xEF, 0xFE, 0xF0, 0xF7])
def test_a_segment_of_somebodys_own_goes(marker: int) -> None:
    assert scrubbed(behind_soi(jpeg_segment(marker, LEAK))) == PLAIN


def test_segments_between_scans_go() -> None:
    progressive = saved(picture(), "JPEG", progressive=True)
    assert progressive.count(b"\xff\xda") > 2
    leaky = before_every_scan(progressive, COMMENT + jpeg_segment(0xE1, LEAK) + jpeg_segment(0xE0, b"JFIF\0" + LEAK))
    assert scrubbed(leaky) == progressive


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3, "progressive": True},
        {"subsampling": 2, "quality": 100},
        {"dpi": (300, 300)},
    ],
)
def test_a_clean_file_is_left_alone(options: dict[str, object]) -> None:
    clean = saved(picture(), "JPEG", **options)
    assert scrubbed(clean) == clean


def test_fill_bytes_and_junk_between_segments_go_and_the_pixels_stay() -> None:
    start = PLAIN.index(b"\xff\xdb")
    padded = PLAIN[:start] + b"\xff\xff\xff" + PLAIN[start:]
    junk = PLAIN[:start] + LEAK + PLAIN[start:]
    assert scrubbed(padded) == scrubbed(junk) == PLAIN


def test_jfif_keeps_the_density_and_loses_the_thumbnail() -> None:
    jfif = b"JFIF\0\x01\x02\x01\x01\x2c\x01\x2c\x01\x01" + LEAK[:3]
    after = scrubbed(SOI + jpeg_segment(0xE0, jfif) + jpeg_segment(0xE0, b"JFXX\0\x10" + LEAK) + PLAIN[20:])
    assert after == SOI + jpeg_segment(0xE0, jfif[:12] + b"\0\0") + PLAIN[20:]


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
@pytest.mark.parametrize("keep_rgb", [False, True])
def test_the_meaning_of_the_colours_does_not_change(mode: str, keep_rgb: bool) -> None:
    options = {"keep_rgb": True} if keep_rgb and mode == "RGB" else {}
    content = saved(picture(mode=mode), "JPEG", **options)
    leaky = behind_soi(exif(oriented(1, behind=LEAK)), jpeg=content)
    assert decode(scrubbed(leaky), Format.JPEG) == decode(content, Format.JPEG)


def test_data_behind_adobes_mark_goes() -> None:
    adobe = b"Adobe\0\x64\0\0\0\0\x01"
    assert scrubbed(behind_soi(jpeg_segment(0xEE, adobe + LEAK))).count(jpeg_segment(0xEE, adobe)) == 1
    assert LEAK not in scrubbed(behind_soi(jpeg_segment(0xEE, adobe + LEAK)))


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_orientation_stays_alone(orientation: int, order: str) -> None:
    after = scrubbed(behind_soi(exif(oriented(orientation, order, behind=LEAK)), jpeg_segment(0xE1, b"Exif\0\0")))
    assert decode(after, Format.JPEG).orientation == orientation
    assert LEAK not in after
    assert len(after) == len(PLAIN) + 36


@pytest.mark.parametrize(
    "block",
    [
        oriented(1, behind=LEAK),
        oriented(9),
        oriented(0),
        b"",
        b"II",
        b"XX*\0" + bytes(30),
        b"MM\0*\0\0",
        b"MM\0*\xff\xff\xff\xff" + bytes(30),
        b"MM\0*\0\0\0\x08\xff\xff",
        tiff([(0x0112, 3, 2, b"\0\x06\0\x06")]),
        tiff([(0x0112, 2, 1, b"6")]),
        tiff([(0x8769, 4, 1, struct.pack(">I", 8))]),
    ],
)
def test_exif_that_says_nothing_of_use_goes(block: bytes) -> None:
    assert scrubbed(behind_soi(exif(block))) == PLAIN


def adobe_rgb_exif(index: bytes = b"R03\0") -> bytes:
    details = struct.pack(">H", 2) + struct.pack(">HHIHH", 0xA001, 3, 1, 0xFFFF, 0)
    details += struct.pack(">HHII", 0xA005, 4, 1, 56) + bytes(4)
    interoperability = struct.pack(">H", 1) + struct.pack(">HHI", 1, 2, 4) + index + bytes(4)
    return tiff([(0x8769, 4, 1, struct.pack(">I", 26))], behind=details + interoperability + LEAK)


def test_the_mark_of_adobe_rgb_stays_unless_there_is_a_profile() -> None:
    after = scrubbed(behind_soi(exif(adobe_rgb_exif())))
    block = after[after.index(b"MM\0*") :]
    assert read_exif(memoryview(block)).adobe_rgb
    assert LEAK not in after
    assert scrubbed(behind_soi(exif(adobe_rgb_exif(b"R98\0")))) == PLAIN
    profiled = saved(picture(), "JPEG", icc_profile=CLEAN_PROFILE)
    assert scrubbed(behind_soi(exif(adobe_rgb_exif()), jpeg=profiled)) == profiled


def test_a_profile_of_many_chunks_stays_whole() -> None:
    profile = CLEAN_PROFILE + bytes(200_000)
    content = saved(picture(), "JPEG", icc_profile=profile)
    assert decode(scrubbed(behind_soi(COMMENT, jpeg=content)), Format.JPEG).icc_profile == profile


def test_what_is_no_profile_goes() -> None:
    fake = jpeg_segment(0xE2, b"ICC_PROFILE\0\x01\x01" + LEAK * 30)
    assert scrubbed(behind_soi(fake)) == PLAIN
    assert scrubbed(behind_soi(jpeg_segment(0xE2, b"ICC_PROFILE\0"))) == PLAIN


def test_what_follows_the_picture_goes() -> None:
    assert scrubbed(PLAIN + LEAK) == PLAIN
    assert scrubbed(PLAIN + PLAIN) == PLAIN


def test_a_second_picture_in_place_of_the_end_goes_too() -> None:
    """A decoder sees a marker there, ends the scan, and shows what it has."""
    assert scrubbed(PLAIN[:-2] + PLAIN) == PLAIN
    assert scrubbed(PLAIN[:-2] + PLAIN[PLAIN.index(b"\xff\xc0") :]) == PLAIN


@pytest.mark.parametrize(("side", "scans"), [(8192, 14), (4096, 56), (48, 100)])
def test_scans_are_bounded_by_the_pixels_of_each(side: int, scans: int) -> None:
    frame, scan = PLAIN.index(b"\xff\xc0"), PLAIN.index(b"\xff\xda")
    before = PLAIN[: frame + 5] + struct.pack(">HH", side, side) + PLAIN[frame + 9 : scan]
    largest = before + PLAIN[scan:-2] * scans + EOI
    assert refused(before + PLAIN[scan:-2] * (scans + 1) + EOI, Format.JPEG) is ScrubCode.UNSUPPORTED
    assert read_picture(memoryview(largest), Format.JPEG, PictureBounds(max_pixels=1 << 26)).original == largest


@pytest.mark.parametrize("cut", [2, 10, 40])
def test_a_file_that_is_cut_off_stays_so(cut: int) -> None:
    assert scrubbed(behind_soi(COMMENT)[:-cut]) == PLAIN[:-cut]


def test_the_number_of_lines_stays_when_it_follows_the_scan() -> None:
    lines = jpeg_segment(0xDC, b"\0\x20")
    content = PLAIN[:-2] + lines + jpeg_segment(0xDC, b"\0\x20" + LEAK) + EOI
    assert scrubbed(content) == PLAIN[:-2] + lines + EOI


def test_reserved_codes_inside_a_scan_are_data() -> None:
    """A decoder resynchronises at the next restart: what follows must still be there."""
    rows = saved(picture(320, 240), "JPEG", restart_marker_rows=1)
    start = rows.index(b"\xff\xd0")
    damaged = rows[: start - 4] + b"\xff\x02" + rows[start - 2 :]
    assert scrubbed(damaged) == damaged


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        SOI,
        SOI + EOI,
        PLAIN[2:],
        PLAIN[: PLAIN.index(b"\xff\xda")],
        PLAIN[: PLAIN.index(b"\xff\xda") + 5],
        SOI + b"\xff\xfe\x00\x01" + PLAIN[2:],
        SOI + b"\xff\xfe\xff\xff" + PLAIN[2:],
        SOI + PLAIN[PLAIN.index(b"\xff\xda") :],
        behind_soi(PLAIN[PLAIN.index(b"\xff\xc0") : PLAIN.index(b"\xff\xc4")]),
        SOI + b"\xff" * 5000,
        SOI + bytes(5000),
    ],
)
def test_what_has_no_frame_and_scan_is_corrupt(content: bytes) -> None:
    assert refused(content, Format.JPEG) is ScrubCode.CORRUPT
