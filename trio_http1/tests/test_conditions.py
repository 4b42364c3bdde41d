"""RFC 9110, sections 13 and 14, by cases."""

from datetime import UTC, datetime

import pytest

from trio_http1 import ServerTiming, asked_range, entity_tag, failed_precondition, range_applies

MODIFIED = datetime(2024, 2, 29, 12, 0, 0, 500_000, UTC)
ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 0)),
        ("bytes=0-", (0, None)),
        ("bytes=-1", (None, 1)),
        ("BYTES= 1-2 ", (1, 2)),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("items=0-1", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_a_single_range(header: str | None, expected: object) -> None:
    assert asked_range(header) == expected


@pytest.mark.parametrize("etag", ["abc", '"abc"', 'W/"abc"'])
def test_an_entity_tag_is_strong(etag: str) -> None:
    assert entity_tag(etag) == ETAG


def test_times_of_parts_are_in_milliseconds() -> None:
    timing = ServerTiming(store=0.0123)
    with timing.measured("cache"):
        pass
    assert timing.header().startswith("store;dur=12.3, cache;dur=0.")


SAME = "Thu, 29 Feb 2024 12:00:00 GMT"
BEFORE = "Thu, 29 Feb 2024 11:59:59 GMT"
AFTER = "Thu, 29 Feb 2024 12:00:01 GMT"
ABSURD = f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        # If-None-Match: weak comparison, lists, and it decides alone.
        ({"if-none-match": ETAG}, 304),
        ({"if-none-match": 'W/"abc"'}, 304),
        ({"if-none-match": '"x", "abc"'}, 304),
        ({"if-none-match": '"x"'}, None),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"', "if-modified-since": SAME}, None),
        # If-Modified-Since: three forms of dates; what is no date is ignored.
        ({"if-modified-since": SAME}, 304),
        ({"if-modified-since": "Thursday, 29-Feb-24 12:00:00 GMT"}, 304),
        ({"if-modified-since": "Thu Feb 29 12:00:00 2024"}, 304),
        ({"if-modified-since": BEFORE}, None),
        ({"if-modified-since": "yesterday"}, None),
        ({"if-modified-since": ABSURD}, None),
        ({"if-modified-since": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"}, None),
        # If-Match: strong comparison, before everything else.
        ({"if-match": ETAG}, None),
        ({"if-match": f'"x", {ETAG}'}, None),
        ({"if-match": "*"}, None),
        ({"if-match": 'W/"abc"'}, 412),
        ({"if-match": '"x"'}, 412),
        ({"if-match": "nonsense"}, 412),
        ({"if-match": '"x"', "if-none-match": ETAG}, 412),
        ({"if-match": ETAG, "if-none-match": ETAG}, 304),
        ({"if-match": ETAG, "if-unmodified-since": BEFORE}, None),
        # If-Unmodified-Since, where there is no If-Match.
        ({"if-unmodified-since": SAME}, None),
        ({"if-unmodified-since": AFTER}, None),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": "yesterday"}, None),
        ({"if-unmodified-since": BEFORE, "if-none-match": ETAG}, 412),
        ({"if-unmodified-since": SAME, "if-modified-since": SAME}, 304),
    ],
)
def test_preconditions_in_the_order_of_the_rfc(fields: dict[str, str], expected: int | None) -> None:
    assert failed_precondition(fields, ETAG, MODIFIED) == expected


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        (None, True),
        (ETAG, True),
        ('W/"abc"', False),  # only a strong validator may continue a body
        ('"x"', False),
        ("Thu, 29 Feb 2024 12:00:00 GMT", True),
        ("Thu, 29 Feb 2024 12:00:01 GMT", False),
        (f"Mon, 01 Jan 2024 {'9' * 20}:00:00 GMT", False),
    ],
)
def test_if_range(if_range: str | None, expected: bool) -> None:
    assert range_applies(if_range, ETAG, MODIFIED) is expected
