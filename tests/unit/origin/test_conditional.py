"""RFC 9110 by cases."""

from datetime import UTC, datetime

import pytest

from avion_media.origin.conditional import Unsatisfiable, http_date, is_not_modified, parse_range, range_applies

MODIFIED = datetime(2024, 2, 29, 12, 0, 0, 500_000, UTC)
ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 0)),
        ("bytes=0-", (0, 99)),
        ("bytes=10-19", (10, 19)),
        ("bytes=90-1000", (90, 99)),
        ("bytes=-1", (99, 99)),
        ("bytes=-1000", (0, 99)),
        ("BYTES=1-2", (1, 2)),
        ("bytes=100-", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("items=0-1", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_ranges(header: str | None, expected: object) -> None:
    assert parse_range(header, 100) == expected


def test_no_range_fits_an_empty_body() -> None:
    assert parse_range("bytes=0-", 0) == Unsatisfiable()
    assert parse_range("bytes=-5", 0) == Unsatisfiable()


@pytest.mark.parametrize(
    ("none_match", "modified_since", "expected"),
    [
        (None, None, False),
        (ETAG, None, True),
        ('W/"abc"', None, True),
        ('"x", "abc"', None, True),
        ('"x"', None, False),
        ("*", None, True),
        (None, "Thu, 29 Feb 2024 12:00:00 GMT", True),
        (None, "Thu, 29 Feb 2024 11:59:59 GMT", False),
        (None, "yesterday", False),
        (None, f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}", False),
        (None, f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", False),
        ('"x"', "Thu, 29 Feb 2024 12:00:00 GMT", False),  # If-None-Match decides alone
    ],
)
def test_not_modified(none_match: str | None, modified_since: str | None, expected: bool) -> None:
    assert is_not_modified(none_match, modified_since, ETAG, MODIFIED) is expected


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


def test_dates_are_imf_fixdates() -> None:
    assert http_date(MODIFIED) == "Thu, 29 Feb 2024 12:00:00 GMT"
