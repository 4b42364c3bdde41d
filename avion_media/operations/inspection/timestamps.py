"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(unix_s: float) -> str:
    """Return a Unix time as ISO 8601, UTC; empty for 0."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds") if unix_s else ""
