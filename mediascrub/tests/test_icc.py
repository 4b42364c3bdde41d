"""ICC profiles: numbers stay, and nothing of whose they are; colours are as before in every format."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from mediascrub import Format
from mediascrub.icc import MAX_ICC_BYTES, neutral_colr, neutral_profile

from .made_files import LEAK, SRGB_PROFILE, gif_extension, original_of, picture, saved
from .samples import DATA, PICTURES, colours, decode

SERIAL = bytes.fromhex("C0FFEE42")
MMOD = b"mmod" + bytes(4) + struct.pack(">II", 0x610, 0xA034) + SERIAL + bytes(24)
HEADER_BYTES = 128


def _tags(profile: bytes) -> list[tuple[bytes, bytes]]:
    (count,) = struct.unpack_from(">I", profile, HEADER_BYTES)
    entries = (struct.unpack_from(">4sII", profile, HEADER_BYTES + 4 + 12 * number) for number in range(count))
    return [(name, profile[offset : offset + size]) for name, offset, size in entries]


def _profile(tags: list[tuple[bytes, bytes]], header: bytes = SRGB_PROFILE[:HEADER_BYTES]) -> bytes:
    """A profile of these tags, each with its own content, on boundaries of four bytes."""
    offset = HEADER_BYTES + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    return struct.pack(">I", offset + len(body)) + header[4:] + table + body


def _text(kind: bytes, text: bytes) -> bytes:
    if kind == b"desc":
        return b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79)
    if kind == b"mluc":
        wide = text.decode().encode("utf-16-be")
        return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(wide), 28) + wide
    return kind + bytes(4) + text + bytes(1)


NUMBERS = [(name, content) for name, content in _tags(SRGB_PROFILE) if name not in (b"desc", b"cprt")]
PRIVATE = [
    (b"mmod", MMOD),
    (b"desc", _text(b"desc", LEAK + b" of Jane Doe")),
    (b"cprt", _text(b"mluc", LEAK)),
    (b"dmnd", _text(b"desc", LEAK)),
    (b"dmdd", _text(b"mluc", LEAK)),
    (b"vued", _text(b"desc", LEAK)),
    (b"targ", _text(b"text", LEAK)),
    (b"meta", b"dict" + bytes(4) + LEAK),
    (b"calt", b"dtim" + bytes(4) + struct.pack(">6H", 2024, 5, 17, 8, 1, 2)),
    (b"vcgt", b"vcgt" + bytes(4) + LEAK * 8),
    (b"MS00", b"MS10" + bytes(4) + LEAK),
    (b"oddy", LEAK),
]
PRIVATE_HEADER = b"".join((
    SRGB_PROFILE[:4], b"LEAK", SRGB_PROFILE[8:24], struct.pack(">6H", 2024, 5, 17, 8, 1, 2), b"acspLEAK",
    b"LE\0\1", b"LEAKLEAK", b"LEAKLEA\1", SRGB_PROFILE[64:80], b"LEAK" * 12,
))  # fmt: skip
OWNED = _profile([*PRIVATE[:3], *NUMBERS, *PRIVATE[3:]], PRIVATE_HEADER)
LEAKS = (b"LEAK", LEAK.decode().encode("utf-16-be"), SERIAL, b"Jane", struct.pack(">3H", 2024, 5, 17), b"mmod", b"oddy")


def _assert_neutral(profile: bytes) -> None:
    assert [leak for leak in LEAKS if leak in profile] == []
    assert colours(profile) == colours(OWNED) != ()


def test_what_says_whose_a_profile_is_goes_and_its_colours_stay() -> None:
    assert len(PRIVATE_HEADER) == HEADER_BYTES
    neutral = neutral_profile(OWNED)
    _assert_neutral(neutral)
    assert len(neutral) == len(OWNED)
    assert neutral_profile(neutral) == neutral
    assert [tag for tag in _tags(neutral) if tag[0] not in (b"desc", b"cprt")] == NUMBERS
    opened = ImageCms.ImageCmsProfile(io.BytesIO(neutral)).profile
    assert not opened.profile_description
    assert not opened.copyright
    assert opened.rendering_intent == ImageCms.ImageCmsProfile(io.BytesIO(OWNED)).profile.rendering_intent


def test_a_tag_that_is_on_the_list_goes_if_its_type_is_not() -> None:
    neutral = neutral_profile(_profile([*NUMBERS, (b"A2B2", _text(b"text", LEAK)), (b"chrm", LEAK)]))
    assert LEAK not in neutral
    assert colours(neutral) == colours(SRGB_PROFILE)


def _gif(profile: bytes) -> bytes:
    plain = saved(picture(), "GIF")
    blocks = [profile[start : start + 255] for start in range(0, len(profile), 255)]
    end = 13 + (3 << (plain[10] & 7) + 1)
    return b"GIF89a" + plain[6:end] + gif_extension(0xFF, b"ICCRGBG1012", *blocks) + plain[end:]


def _profile_of_gif(content: bytes) -> bytes:
    at = content.index(b"ICCRGBG1012") + 11
    profile = b""
    while length := content[at]:
        profile += content[at + 1 : at + 1 + length]
        at += 1 + length
    return profile


def _profile_of(content: bytes, fmt: Format) -> bytes:
    return _profile_of_gif(content) if fmt is Format.GIF else decode(content, fmt).icc_profile or b""


@pytest.mark.parametrize(
    ("made", "fmt"),
    [
        (lambda profile: saved(picture(), "JPEG", icc_profile=profile), Format.JPEG),
        (lambda profile: saved(picture(), "PNG", icc_profile=profile), Format.PNG),
        (lambda profile: saved(picture(), "WEBP", icc_profile=profile), Format.WEBP),
        (lambda profile: saved(picture(), "AVIF", icc_profile=profile), Format.AVIF),
        (_gif, Format.GIF),
    ],
    ids=["jpeg", "png", "webp", "avif", "gif"],
)
def test_no_format_carries_what_says_whose_a_profile_is(made: Callable[[bytes], bytes], fmt: Any) -> None:
    content = made(OWNED)
    assert _profile_of(content, fmt) == OWNED
    clean = original_of(content, fmt)
    _assert_neutral(_profile_of(clean, fmt))
    assert LEAK not in clean
    assert original_of(clean, fmt) == clean
    assert decode(clean, fmt) == decode(content, fmt)


def test_a_profile_in_many_segments_of_a_jpeg_is_read_in_their_order() -> None:
    owned = _profile([*NUMBERS, (b"mmod", MMOD), (b"vcgt", b"vcgt" + LEAK * 10_000)])
    content = saved(picture(), "JPEG", icc_profile=owned)
    starts = [
        at for at in range(len(content)) if content.startswith(b"\xff\xe2", at) and b"ICC_" in content[at : at + 9]
    ]
    ends = [at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") for at in starts]
    assert len(starts) == 2
    first, second = (content[start:end] for start, end in zip(starts, ends, strict=True))
    swapped = content[: starts[0]] + second + first + content[ends[1] :]
    assert original_of(swapped, Format.JPEG) == original_of(content, Format.JPEG)
    assert SERIAL not in original_of(content, Format.JPEG)
    assert colours(decode(original_of(swapped, Format.JPEG), Format.JPEG).icc_profile) == colours(owned)


def test_bytes_behind_the_compressed_profile_of_a_png_go() -> None:
    plain = saved(picture(), "PNG")
    payload = b"icc\0\0" + zlib.compress(neutral_profile(SRGB_PROFILE)) + LEAK
    chunk = struct.pack(">I", len(payload)) + b"iCCP" + payload + struct.pack(">I", zlib.crc32(b"iCCP" + payload))
    clean = original_of(plain[:33] + chunk + plain[33:], Format.PNG)
    assert LEAK not in clean
    assert decode(clean, Format.PNG).icc_profile == neutral_profile(SRGB_PROFILE)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_tables_stay(mode: str) -> None:
    profile = _lut_profile(mode)
    neutral = neutral_profile(profile)
    assert LEAK not in neutral
    assert colours(neutral) == colours(profile) != ()


def _lut_profile(mode: str) -> bytes:
    """A profile whose colours are in a table (gray ones have but a curve)."""
    channels = len(mode) if mode != "L" else 1
    space = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}[mode]
    header = SRGB_PROFILE[:8] + b"\x02\x40\0\0prtr" + space + b"Lab " + SRGB_PROFILE[24:HEADER_BYTES]
    if mode == "L":
        header = header[:20] + b"XYZ " + header[24:]
        colour = (b"kTRC", b"curv" + bytes(4) + struct.pack(">IH", 1, 0x01CD))
    else:
        grid = b"".join(
            struct.pack(">3B", 255 - sum(at) * 255 // channels, 90 + 60 * at[0], 160 - 50 * at[-1])
            for at in itertools.product((0, 1), repeat=channels)
        )
        ramp = bytes(range(256))
        identity = struct.pack(">9I", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
        table = b"mft1" + bytes(4) + bytes((channels, 3, 2, 0)) + identity + ramp * channels + grid + ramp * 3
        colour = (b"A2B0", table)
    white = (b"wtpt", b"XYZ " + bytes(4) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D))
    return _profile([(b"desc", _text(b"desc", LEAK)), (b"cprt", _text(b"text", LEAK)), white, colour], header)


@pytest.mark.parametrize("name", PICTURES)
def test_real_profiles_show_the_same_colours(name: str) -> None:
    profile = decode((DATA / name).read_bytes(), PICTURES[name]).icc_profile
    if profile is not None:
        assert colours(neutral_profile(profile)) == colours(profile) != ()


def _with(at: int, content: bytes) -> bytes:
    return SRGB_PROFILE[:at] + content + SRGB_PROFILE[at + len(content) :]


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        SRGB_PROFILE[:127],
        SRGB_PROFILE[:HEADER_BYTES],
        SRGB_PROFILE[:140],
        _with(36, b"none"),
        _with(HEADER_BYTES, b"\xff\xff\xff\xff"),
        _with(HEADER_BYTES, b"\0\0\0\x65"),
        _with(0, bytes(4)),
        _profile([]),
        _profile(PRIVATE),
        SRGB_PROFILE + bytes(MAX_ICC_BYTES),
    ],
)
def test_what_converts_no_colours_goes(profile: bytes) -> None:
    assert neutral_profile(profile) == b""


def test_tags_that_share_their_content_still_do() -> None:
    """As red, green and blue share a curve, and descriptions a text; here a text is also said to be a curve."""
    shared = _profile([*NUMBERS, (b"desc", _text(b"desc", LEAK)), (b"cprt", b"")])
    (count,) = struct.unpack_from(">I", shared, HEADER_BYTES)
    entry = HEADER_BYTES + 4 + 12 * (count - 1)
    shared = shared[: entry + 4] + shared[entry - 8 : entry] + shared[entry + 12 :]
    assert [name for name, _ in _tags(neutral_profile(shared))].count(b"cprt") == 0  # one empty text there is enough
    assert colours(neutral_profile(shared)) == colours(shared)


@settings(max_examples=300, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(OWNED) - 1), st.binary(min_size=1, max_size=8)), max_size=5))
def test_damaged_profiles_are_cleaned_once_and_for_all(changes: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(OWNED)
    for at, content in changes:
        damaged[at : at + len(content)] = content
    neutral = neutral_profile(damaged)
    assert neutral_profile(neutral) == neutral
    assert len(neutral) in (0, len(damaged))


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"prof" + SRGB_PROFILE, b"prof" + neutral_profile(SRGB_PROFILE)),
        (b"rICC" + SRGB_PROFILE, b"rICC" + neutral_profile(SRGB_PROFILE)),
        (b"prof" + LEAK * 20, b""),
        (b"nclx\0\1\0\1\0\1\x80" + LEAK, b"nclx\0\1\0\1\0\1\x80"),
        (b"nclc\0\1\0\1\0\1" + LEAK, b"nclc\0\1\0\1\0\1"),
        (b"SECR" + SRGB_PROFILE, b""),
        (b"", b""),
    ],
)
def test_of_a_colour_box_the_numbers_stay(content: bytes, kept: bytes) -> None:
    assert neutral_colr(memoryview(content)) == kept
    assert neutral_colr(kept) == kept
