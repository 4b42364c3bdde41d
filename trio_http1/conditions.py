"""Conditional requests and ranges (RFC 9110, sections 13 and 14), and the times of a response's parts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

CONDITIONS = ("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "if-range")
"""The fields that make a request conditional."""
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_SINGLE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


def entity_tag(etag: str) -> str:
    """Return an etag as a strong entity tag (RFC 9110, 8.8.3)."""
    return '"' + etag.removeprefix("W/").strip('"') + '"'


def _parse_date(text: str | None) -> datetime | None:
    """Return a date in any of its three forms (RFC 9110, 5.6.7); None where there is none, which is to be ignored."""
    if text is None:
        return None
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # also a year or an offset of twenty digits
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _matches(header: str, etag: str, *, strongly: bool) -> bool:
    """Return whether a list of entity tags has this one, which is strong. ``*`` has every tag (RFC 9110, 8.8.3.2)."""
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
    """Return whether ``If-Range`` lets the ``Range`` stand: a strong match, or the exact date."""
    if if_range is None:
        return True
    if if_range.lstrip().startswith(('"', "W/")):
        return if_range.strip() == etag
    return _parse_date(if_range) == last_modified.replace(microsecond=0)


def asked_range(header: str | None) -> tuple[int | None, int | None] | None:
    """Return the range of a ``Range``: ``(first, last)`` inclusive, ``(first, None)``, or ``(None, n)`` for the last n.

    None stands for everything: no range, several, or one that is malformed, which a server may ignore (RFC 9110, 14.2).
    """
    match = _SINGLE_RANGE.fullmatch(header) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    first = int(match[1]) if match[1] else None
    last = int(match[2]) if match[2] else None
    if first is not None and last is not None and last < first:
        return None
    return first, last


class ServerTiming(dict[str, float]):
    """The seconds of each part of one response (https://www.w3.org/TR/server-timing/)."""

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Measure the block that follows. ``name`` is a token of HTTP."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self[name] = time.perf_counter() - started

    def header(self) -> str:
        """Return the value of ``Server-Timing``, in milliseconds; empty without measurements."""
        return ", ".join(f"{name};dur={duration_s * 1000:.1f}" for name, duration_s in self.items())
