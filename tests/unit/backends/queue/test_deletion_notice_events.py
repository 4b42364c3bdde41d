"""drop_deleted events are written by others: none of them may be fatal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.items.deletion import parse_notice

ONE, TWO = (new_media_id(JPEG, 1_700_000_000_000 + number).text for number in (1, 2))
REMOTE = "ab" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_ids_of_both_kinds_are_read_once_each_in_order() -> None:
    notice = parse_notice(json.dumps({"media_ids": [TWO, REMOTE, ONE, TWO], "more": 1}).encode(), "1-0")
    assert (notice.media_ids, notice.position, notice.problem) == ((TWO, REMOTE, ONE), "1-0", "")


def test_ids_that_are_none_are_passed_over_and_said() -> None:
    notice = parse_notice(json.dumps({"media_ids": ["../x", ONE, 7, None, [], ONE.lower()]}).encode())
    assert notice.media_ids == (ONE,)
    assert notice.problem == "5 of 6 values are not media ids"


def test_an_id_of_a_newer_version_is_not_lost() -> None:
    newer = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    notice = parse_notice(json.dumps({"media_ids": [newer, ONE]}).encode())
    assert (notice.media_ids, notice.problem) == ((newer, ONE), "")


NOT_JSON = [b"", b"nonsense", b"\xff\xfe\x00", b"[" * 100_000]
NO_LIST = [
    b"[]",
    b"7",
    b"null",
    b"{}",
    b'{"media_ids":null}',
    b'{"media_ids":"x"}',
    b'{"media_ids":' + b"1" * 9999 + b"}",
]
TOO_LONG = [b" " * (2 << 20)]


@pytest.mark.parametrize("event", [*NOT_JSON, *NO_LIST, *TOO_LONG], ids=range(12))
def test_malformed_events_name_nothing_and_say_why(event: bytes) -> None:
    notice = parse_notice(event)
    assert notice.media_ids == ()
    assert notice.problem


def test_a_notice_without_a_list_of_ids_says_so() -> None:
    assert parse_notice(b"{}").problem == 'the event has no list "media_ids"'


@given(st.binary() | JSON.map(lambda value: json.dumps({"media_ids": value}).encode()))
def test_no_event_is_fatal(event: bytes) -> None:
    parse_notice(event)
