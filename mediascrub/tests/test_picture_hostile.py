"""Whatever the bytes are: a clean copy or a refusal, in time that grows with the length and no faster."""

from __future__ import annotations

import struct
import time
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediascrub import PEEK_BYTES, Format, ScrubCode, ScrubError, peek

from .made_files import (
    SRGB_PROFILE,
    box,
    full_box,
    jpeg_segment,
    oriented,
    original_of,
    picture,
    png_chunk,
    refused,
    riff_chunk,
    saved,
    webp,
)
from .made_heif import AV1C, ISPE, PLAIN, MadeItem
from .samples import DATA

IMAGE_FORMATS = (Format.JPEG, Format.PNG, Format.GIF, Format.WEBP, Format.AVIF, Format.HEIC)
REFUSALS = {
    ScrubCode.CORRUPT,
    ScrubCode.UNSUPPORTED,
    ScrubCode.EXTERNAL_REFERENCE,
    ScrubCode.EMPTY,
    ScrubCode.BAD_DIMENSIONS,  # no side may be zero
}
EXIF = b"Exif\0\0" + oriented(6)


def _animated(format_name: str) -> bytes:
    frames = [picture(mode="RGBA").rotate(90)]
    options = {"exif": EXIF} if format_name != "GIF" else {}
    return saved(picture(mode="RGBA"), format_name, save_all=True, append_images=frames, duration=50, **options)


SEEDS: dict[str, tuple[bytes, Format]] = {
    "jpeg": (saved(picture(), "JPEG", icc_profile=SRGB_PROFILE, exif=EXIF, comment=b"words"), Format.JPEG),
    "progressive jpeg": (saved(picture(), "JPEG", progressive=True, restart_marker_rows=1), Format.JPEG),
    "png": (saved(picture(), "PNG", icc_profile=SRGB_PROFILE, exif=EXIF), Format.PNG),
    "apng": (_animated("PNG"), Format.PNG),
    "gif": (_animated("GIF"), Format.GIF),
    "webp": (_animated("WEBP"), Format.WEBP),
    "avif": (saved(picture(mode="RGBA"), "AVIF", exif=EXIF, icc_profile=SRGB_PROFILE), Format.AVIF),
    "avis": ((DATA / "avif-animated-exif-gps-xmp.avif").read_bytes(), Format.AVIF),
    "heic": ((DATA / "heic-xiaomi-gps.heic").read_bytes()[:200_000], Format.HEIC),
}
# A change matters most where the structure is, and there sizes and counts matter most.
INTERESTING_BYTES = st.sampled_from((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)) | st.integers(0, 255)
CHANGES = st.lists(st.tuples(st.integers(0, 2500) | st.integers(0, 1 << 20), INTERESTING_BYTES), max_size=6)


def scrub_or_refuse(content: bytes, fmt: Format) -> None:
    try:
        after = original_of(content, fmt)
    except ScrubError as rejected:
        if rejected.code not in REFUSALS:
            raise
        return
    assert len(after) <= 2 * len(content) + 200
    assert original_of(after, fmt) == after


@pytest.mark.parametrize("seed", SEEDS)
@settings(max_examples=150)
@given(changes=CHANGES, cut=st.none() | st.floats(0, 1), inserted=st.binary(max_size=12), at=st.integers(0, 2500))
def test_a_damaged_file_is_copied_or_refused(
    seed: str, changes: list[tuple[int, int]], cut: float | None, inserted: bytes, at: int
) -> None:
    content, fmt = SEEDS[seed]
    damaged = bytearray(content)
    for offset, value in changes:
        damaged[offset % len(damaged)] = value
    damaged[at:at] = inserted
    if cut is not None:
        del damaged[int(cut * len(damaged)) :]
    scrub_or_refuse(bytes(damaged), fmt)


@pytest.mark.parametrize("fmt", IMAGE_FORMATS, ids=lambda fmt: fmt.value)
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(fmt: Format, content: bytes) -> None:
    for start in (b"", SEEDS["heic" if fmt is Format.HEIC else fmt.value][0][:12]):
        scrub_or_refuse(start + content, fmt)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_length_is_copied_or_refused(seed: str) -> None:
    content, fmt = SEEDS[seed]
    for length in range(min(len(content), 2500)):
        scrub_or_refuse(content[:length], fmt)


JPEG_START = b"\xff\xd8"
PNG_START = SEEDS["png"][0][:33]
GIF_START = b"GIF89a\x01\0\x01\0\0\0\0"


def _tables_of(kind: bytes, count: int) -> bytes:
    return box(b"moov", full_box(b"mvhd", 0, 0, bytes(96)), *([box(kind)] * count))


def _worst_cases(size: int) -> dict[str, tuple[bytes, Format]]:
    """Files of the smallest elements there are, each of about so many bytes."""
    return {
        "jpeg: empty segments": (JPEG_START + jpeg_segment(0xFE, b"") * (size // 4), Format.JPEG),
        "jpeg: restarts without a scan": (JPEG_START + b"\xff\xd0" * (size // 2), Format.JPEG),
        "jpeg: fill bytes": (SEEDS["jpeg"][0][:-2] + b"\xff" * size, Format.JPEG),
        "jpeg: profile chunks": (JPEG_START + jpeg_segment(0xE2, b"ICC_PROFILE\0\x01\x01") * (size // 18), Format.JPEG),
        "jpeg: directories of 65535 entries": (
            JPEG_START + jpeg_segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08" + b"\xff\xff" + bytes(65000)) * (size >> 14),
            Format.JPEG,
        ),
        "png: empty chunks": (PNG_START + png_chunk(b"tEXt", b"") * (size // 12), Format.PNG),
        "png: empty pixels": (PNG_START + png_chunk(b"IDAT", b"") * (size // 12), Format.PNG),
        "gif: padding": (GIF_START + bytes(size), Format.GIF),
        "gif: empty extensions": (GIF_START + b"\x21\xfe\0" * (size // 3), Format.GIF),
        "gif: blocks of one byte": (GIF_START + b"\x21\xfe" + b"\x01\x01" * (size // 2), Format.GIF),
        "webp: empty chunks": (
            webp(riff_chunk(b"VP8X", bytes(10)), riff_chunk(b"none", b"") * (size // 8)),
            Format.WEBP,
        ),
        "heif: empty boxes": (PLAIN.file_type + box(b"free") * (size // 8), Format.AVIF),
        "heif: empty boxes in meta": (replace(PLAIN, more_in_meta=box(b"free") * (size // 12)).build(), Format.AVIF),
        "heif: empty properties": (
            replace(PLAIN, items=(MadeItem(1, properties=(ISPE, b"!" + AV1C, box(b"free") * (size // 8))),)).build(),
            Format.AVIF,
        ),
        "heif: references to itself": (
            replace(PLAIN, references=((b"dimg", 1, (1,) * (size // 5)),) * 4).build(),
            Format.AVIF,
        ),
        "heif: empty tracks": (PLAIN.file_type + _tables_of(b"trak", size // 8 - 20), Format.AVIF),
    }


WORST_CASES = _worst_cases(1 << 18)
SMALLER_CASES = _worst_cases(1 << 16)


@pytest.mark.parametrize("name", WORST_CASES)
def test_a_worst_case_is_linear(name: str) -> None:
    """Each took below 0.2 s when written; quadratic would be minutes."""
    content, fmt = WORST_CASES[name]
    before = time.process_time()
    scrub_or_refuse(content, fmt)
    assert time.process_time() - before < 10


@pytest.mark.parametrize("name", WORST_CASES)
def test_a_worst_case_takes_little_memory(name: str) -> None:
    content, fmt = SMALLER_CASES[name]  # tracing takes several times as long
    tracemalloc.start()
    try:
        scrub_or_refuse(content, fmt)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 16


def test_a_count_that_lies_is_believed_only_as_far_as_the_bytes_go() -> None:
    table = full_box(b"stsz", 0, 0, struct.pack(">II", 0, 0xFFFFFFFF))
    animated = SEEDS["avis"][0]
    start = animated.index(b"stsz") - 4
    length = int.from_bytes(animated[start : start + 4], "big")
    lying = animated[:start] + table.ljust(length, b"\0") + animated[start + length :]
    lying = lying[:start] + length.to_bytes(4, "big") + lying[start + 4 :]
    assert refused(lying, Format.AVIF) is ScrubCode.CORRUPT


def test_a_count_of_ranges_that_lies_is_corrupt() -> None:
    content = PLAIN.build()
    one_range = b"\0\x01\0\0\0\0\0\x01"  # of item 1, in this file
    at = content.index(one_range, content.index(b"iloc"))
    assert refused(content[: at + 6] + b"\xff\xff" + content[at + 8 :], Format.AVIF) is ScrubCode.CORRUPT


@pytest.mark.parametrize("part", [b"\xff\xd8", b"\xff\xe0\x00\x02", b"\xff\xda\x00\x02", b"\xff", b"ispe", b"\0"])
@pytest.mark.parametrize("fmt", IMAGE_FORMATS, ids=lambda fmt: fmt.value)
def test_a_peek_takes_milliseconds_whatever_the_bytes_are(fmt: Format, part: bytes) -> None:
    """It runs on an event loop. A walk over all these parts of a JPEG took more than a second."""
    head = (b"\xff\xd8" + part * PEEK_BYTES)[:PEEK_BYTES]
    started = time.thread_time()
    peek(head, fmt)
    assert time.thread_time() - started < 0.1
