"""Conditional and range requests as pure functions (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_SINGLE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """The range lies beyond the end: answer 416."""


def http_date(moment: datetime) -> str:
    """``Last-Modified`` as an IMF-fixdate."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def _parse_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # also a year or an offset of twenty digits
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _opaque(entity_tag: str) -> str:
    return entity_tag.removeprefix("W/")


def is_not_modified(
    if_none_match: str | None, if_modified_since: str | None, etag: str, last_modified: datetime
) -> bool:
    """Whether to answer 304. ``If-None-Match`` decides alone when it is there (RFC 9110, 13.2.2)."""
    if if_none_match is not None:
        if if_none_match.strip() == "*":
            return True
        return any(_opaque(tag) == _opaque(etag) for tag in _ENTITY_TAG.findall(if_none_match))
    if if_modified_since is not None:
        since = _parse_date(if_modified_since)
        return since is not None and last_modified.replace(microsecond=0) <= since
    return False


def range_applies(if_range: str | None, etag: str, last_modified: datetime) -> bool:
    """Whether ``If-Range`` lets the ``Range`` stand: a strong match, or the exact date."""
    if if_range is None:
        return True
    if if_range.lstrip().startswith(('"', "W/")):
        return if_range.strip() == etag
    return _parse_date(if_range) == last_modified.replace(microsecond=0)


def forwardable_range(header: str | None) -> tuple[int | None, int | None] | None:
    """A single range to hand on as it is, without knowing the size; None to ask for everything.

    ``(first, last)``, ``(first, None)`` to the end, or ``(None, n)`` for the last n bytes.
    """
    match = _SINGLE_RANGE.fullmatch(header) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    first = int(match[1]) if match[1] else None
    last = int(match[2]) if match[2] else None
    if first is not None and last is not None and last < first:
        return None
    return first, last


def parse_range(header: str | None, size: int) -> tuple[int, int] | Unsatisfiable | None:
    """The first and last byte asked for; None to serve everything (no range, several, or one that is malformed)."""
    asked = forwardable_range(header)
    if asked is None:
        return None
    first, last = asked
    if first is None:
        suffix = last or 0
        return (max(0, size - suffix), size - 1) if suffix and size else Unsatisfiable()
    if first >= size:
        return Unsatisfiable()
    return first, size - 1 if last is None else min(last, size - 1)
