"""GIF blocks, one rule each."""

from __future__ import annotations

import pytest

from mediascrub import Format, ScrubCode

from .made_files import CLEAN_PROFILE, LEAK, gif_extension, original_of, picture, refused, saved

ANIMATED = saved(picture(mode="P"), "GIF", save_all=True, append_images=[picture(mode="P").rotate(90)], duration=70)
PLAIN = saved(picture(mode="P"), "GIF")
TABLE_END = 13 + (3 << (PLAIN[10] & 7) + 1)


def scrubbed(content: bytes) -> bytes:
    after = original_of(content, Format.GIF)
    assert original_of(after, Format.GIF) == after
    return after


def with_blocks(*blocks: bytes) -> bytes:
    """Before the first frame, and again before the trailer."""
    return PLAIN[:TABLE_END] + b"".join(blocks) + PLAIN[TABLE_END:-1] + b"".join(blocks) + b";"


@pytest.mark.parametrize(
    "extension",
    [
        gif_extension(0xFE, LEAK),
        gif_extension(0x01, bytes(12), LEAK),
        gif_extension(0xFF, b"XMP DataXMP", LEAK),
        gif_extension(0xFF, b"C2PA_GIF\x01\0\0", LEAK),
        gif_extension(0xFF, b"NETSCAPE2.0", b"\x02" + LEAK),
        gif_extension(0xFF, b"NETSCAPE2.0"),
        gif_extension(0xFF, b"NETSCAPE2.0" + LEAK, b"\x01\0\0"),
        gif_extension(0xFF, b"ICCRGBG1012", LEAK * 20),
        gif_extension(0xFF),
        gif_extension(0xF9, b"\0\0"),
        gif_extension(0x77, LEAK),
        b"\0\0",
    ],
)
def test_an_extension_that_is_not_on_the_list_goes(extension: bytes) -> None:
    assert scrubbed(with_blocks(extension)) == PLAIN


@pytest.mark.parametrize("identifier", [b"NETSCAPE2.0", b"ANIMEXTS1.0"])
def test_the_loop_count_stays_alone(identifier: bytes) -> None:
    after = scrubbed(with_blocks(gif_extension(0xFF, identifier, b"\x02abcd", b"\x01\x05\0" + LEAK, LEAK)))
    assert after == with_blocks(gif_extension(0xFF, identifier, b"\x01\x05\0"))


def test_control_stays_alone() -> None:
    after = scrubbed(with_blocks(gif_extension(0xF9, b"\x04\x0a\0\x02" + LEAK, LEAK)))
    assert after == with_blocks(gif_extension(0xF9, b"\x04\x0a\0\x02"))


def test_a_profile_stays() -> None:
    blocks = [CLEAN_PROFILE[start : start + 100] for start in range(0, len(CLEAN_PROFILE), 100)]
    content = with_blocks(gif_extension(0xFF, b"ICCRGBG1012", *blocks))
    assert scrubbed(content) == content


def test_clean_files_are_left_alone_and_what_follows_the_end_goes() -> None:
    assert scrubbed(ANIMATED) == ANIMATED
    assert scrubbed(ANIMATED + LEAK) == ANIMATED


def test_junk_between_blocks_ends_the_file() -> None:
    assert scrubbed(PLAIN[:-1] + LEAK) == PLAIN


def test_a_missing_trailer_is_added_and_a_cut_extension_dropped() -> None:
    assert scrubbed(PLAIN[:-1]) == PLAIN
    assert scrubbed(PLAIN[:-1] + gif_extension(0xFE, LEAK)[:-3]) == PLAIN


@pytest.mark.parametrize("cut", [2, 10])
def test_a_frame_that_is_cut_off_stays_so(cut: int) -> None:
    assert scrubbed(PLAIN[:-cut]) == PLAIN[:-cut]


@pytest.mark.parametrize(
    "content",
    [b"GIF89a", PLAIN[:12], PLAIN[:100], PLAIN[:TABLE_END], PLAIN[:TABLE_END] + b";", b"GIF88a" + PLAIN[6:]],
)
def test_what_has_no_frame_is_corrupt(content: bytes) -> None:
    assert refused(content, Format.GIF) is ScrubCode.CORRUPT
