"""Ids carry their date and format, sort by time, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avion_media.common import keys
from avion_media.common.formats import FORMATS, JPEG, MP4, MediaFormat
from avion_media.common.ids import (
    InvalidId,
    MediaId,
    RemoteIds,
    UnknownFormat,
    new_media_id,
    parse_any_id,
    parse_media_id,
)
from tests.remote_ids import remote_id_for

UNIX_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z


@given(st.sampled_from(FORMATS), st.integers(0, 253_402_300_799_999), st.integers(0, (1 << 72) - 1))
def test_an_id_reads_back_as_what_it_was_made_of(fmt: MediaFormat, unix_ms: int, random: int) -> None:
    media_id = new_media_id(fmt, unix_ms, lambda _bits: random)
    assert len(media_id.text) == 26
    assert parse_media_id(media_id.text) == media_id
    assert media_id.format is fmt


def test_the_bits_are_laid_out_as_the_contract_says() -> None:
    media_id = new_media_id(MP4, UNIX_MS, lambda bits: (1 << bits) - 1)
    value = 0
    for character in media_id.text:
        value = value * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    assert value >> 80 == UNIX_MS
    assert (value >> 72) & 0xFF == MP4.code
    assert value & ((1 << 72) - 1) == (1 << 72) - 1


@given(st.lists(st.integers(0, (1 << 47)), min_size=2, max_size=5))
def test_ids_sort_by_time(moments: list[int]) -> None:
    moments = [moment % 253_402_300_799_999 for moment in moments]
    texts = [new_media_id(JPEG, moment, lambda _bits: 0).text for moment in moments]
    assert sorted(texts) == [new_media_id(JPEG, moment, lambda _bits: 0).text for moment in sorted(moments)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 25,
        "0" * 27,
        "8" + "0" * 25,  # beyond 128 bits
        "01HF7YAT0006Y4XA9Q10NMVPVU",  # U is not in the alphabet
        "01hf7yat0006y4xa9q10nmvpvk",  # one spelling only: ids are cache keys
        "../../../../etc/passwd/xxx",
        "0" * 64 + "\n",
        "G" * 64,
        "A" * 64,  # upper-case hex
        "7ZZZZZZZZZ06Y4XA9Q10NMVPVK",  # the year 10889
    ],
)
def test_nothing_else_is_an_id(text: str) -> None:
    with pytest.raises(InvalidId):
        parse_any_id(text)


@pytest.mark.parametrize("text", ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01HF7YAT00ZZY4XA9Q10NMVPVK", "0" * 26])
def test_an_id_of_a_format_of_another_version_is_told_apart(text: str) -> None:
    with pytest.raises(UnknownFormat):
        parse_any_id(text)


@pytest.mark.parametrize(
    "text", ["7ZZZZZZZZZZZY4XA9Q10NMVPVK", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01arz3ndektsv4rrffq69g5fav"]
)
def test_what_is_no_id_at_all_is_of_no_format(text: str) -> None:
    with pytest.raises(InvalidId) as caught:
        parse_any_id(text)
    assert not isinstance(caught.value, UnknownFormat)


def test_every_key_follows_from_the_id() -> None:
    media_id = new_media_id(JPEG, UNIX_MS, lambda _bits: 1)
    assert isinstance(media_id, MediaId)
    assert keys.incoming(media_id) == f"incoming/{media_id}"
    assert keys.original(media_id) == f"original/2023/11/14/{media_id}.jpg"
    assert keys.thumbnail(media_id, "small") == f"thumbnail/small/2023/11/14/{media_id}.jpg"
    remote_id = remote_id_for("https://example.org/a.png")
    assert keys.original(remote_id) == f"cached_remote/{remote_id}"
    assert keys.thumbnail(remote_id, "large") == f"thumbnail/large/remote/{remote_id}.jpg"


def test_only_the_key_gives_the_id_of_a_remote_file() -> None:
    """HMAC-SHA256, as in RFC 4231, test case 2."""
    ids = RemoteIds(b"Jefe")
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert ids.of("what do ya want for nothing?").text == expected
    assert "Jefe" not in repr(ids)


def test_format_codes_are_frozen() -> None:
    """They are inside ids that live for ever: a change here breaks every stored medium."""
    assert {fmt.name: fmt.code for fmt in FORMATS} == {
        "jpeg": 1, "png": 2, "gif": 3, "webp": 4, "avif": 5, "heic": 6, "mp4": 32, "mov": 33, "webm": 34, "mkv": 35,
            "mp3": 64, "ogg": 65, "flac": 66, "m4a": 67, "wav": 68, "weba": 69,
    }  # fmt: skip
