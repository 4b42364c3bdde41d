"""Ranges that are served, and the form of validators."""

from datetime import UTC, datetime

import pytest

from avion_media.backends.store import ObjectInfo, RangeNotSatisfiable
from avion_media.servers.origin.app import parse_range, validators

MODIFIED = datetime(2024, 2, 29, 12, 0, 0, 500_000, UTC)


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


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_ranges_beyond_the_end(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, size)


def test_dates_are_imf_fixdates() -> None:
    info = ObjectInfo("original/x", 1, "one", MODIFIED, "image/jpeg")
    assert validators(info, "no-store")["Last-Modified"] == "Thu, 29 Feb 2024 12:00:00 GMT"
