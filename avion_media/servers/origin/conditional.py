"""Conditional and range requests as pure functions (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from avion_media.backends.store import ByteRange, RangeNotSatisfiable, within

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_SINGLE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)

CONDITIONS = ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "if-range")


def _parse_date(text: str | None) -> datetime | None:
    """A date in any of its three forms (RFC 9110, 5.6.7); None where there is none, which is to be ignored."""
    if text is None:
        return None
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # also a year or an offset of twenty digits
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _matches(header: str, etag: str, *, strongly: bool) -> bool:
    """Whether a list of entity tags has this one, which is strong. ``*`` has every tag (RFC 9110, 8.8.3.2)."""
    if header.strip() == "*":
        return True
    tags = _ENTITY_TAG.findall(header)
    return etag in tags or (not strongly and f"W/{etag}" in tags)


def failed_precondition(headers: Mapping[str, str], etag: str, last_modified: datetime) -> int | None:
    """Return 412 or 304 if a precondition of a GET or HEAD fails, in the order of RFC 9110, 13.2.2; otherwise None."""
    modified = last_modified.replace(microsecond=0)
    if (if_match := headers.get("if-match")) is not None:
        if not _matches(if_match, etag, strongly=True):
            return 412
    elif (since := _parse_date(headers.get("if-unmodified-since"))) is not None and modified > since:
        return 412
    if (if_none_match := headers.get("if-none-match")) is not None:
        return 304 if _matches(if_none_match, etag, strongly=False) else None
    since = _parse_date(headers.get("if-modified-since"))
    return 304 if since is not None and modified <= since else None


def range_applies(if_range: str | None, etag: str, last_modified: datetime) -> bool:
    """Whether ``If-Range`` lets the ``Range`` stand: a strong match, or the exact date."""
    if if_range is None:
        return True
    if if_range.lstrip().startswith(('"', "W/")):
        return if_range.strip() == etag
    return _parse_date(if_range) == last_modified.replace(microsecond=0)


def forwardable_range(header: str | None) -> ByteRange | None:
    """Return the range that the header asks for, in the form that the store takes. None stands for the whole object."""
    match = _SINGLE_RANGE.fullmatch(header) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    first = int(match[1]) if match[1] else None
    last = int(match[2]) if match[2] else None
    if first is not None and last is not None and last < first:
        return None
    return first, last


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and last byte asked for; None to serve everything (no range, several, or one that is malformed).

    Raises RangeNotSatisfiable for a range beyond the end.
    """
    asked = forwardable_range(header)
    if asked is None:
        return None
    first, last = within(asked, size)
    if first >= size:
        raise RangeNotSatisfiable
    return first, last
