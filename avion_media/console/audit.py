"""The audit log: records the actions of operators, with time and result, on Redis and in the log.

The list on Redis is for the console and is bounded; the log is the record that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from avion_media.domain.errors import Unavailable
from avion_media.redis import Redis, as_text
from avion_media.telemetry import get_logger

AUDIT_STREAM: Final = "media_console_audit"
KEPT: Final = 1000
PAGE_ROWS: Final = 50
_NAMED: Final = 5  # targets of one action that are recorded
_MAX_TEXT: Final = 300
_log = get_logger(path="console")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. ``at`` is in Unix seconds; ``targets`` are the first few of ``count``."""

    entry_id: str
    at: float
    who: str
    action: str
    count: int
    targets: str
    result: str
    replica: str


async def record(
    redis: Redis, *, who: str, action: str, count: int, targets: list[str], result: str, replica: str
) -> str:
    """Log an action and add it to the list. Return its id there; empty while Redis is unavailable."""
    named = ", ".join(targets[:_NAMED]) + (f" and {count - _NAMED} more" if count > _NAMED else "")
    fields = {
        "who": who,
        "action": action,
        "count": str(count),
        "targets": named[:_MAX_TEXT],
        "result": result[:_MAX_TEXT],
        "replica": replica,
    }
    _log.info("console.action", **fields)
    flat = [part for pair in fields.items() for part in pair]
    try:
        entry_id: bytes = await redis.execute("XADD", AUDIT_STREAM, "MAXLEN", "~", KEPT, "*", *flat)
    except Unavailable:
        return ""
    return entry_id.decode()


async def read(redis: Redis, before: str = "") -> tuple[list[AuditEntry], str]:
    """Return a page of the list, newest first, and the cursor behind it. Raises `Unavailable`."""
    start = f"({before}" if _is_id(before) else "+"
    rows = await redis.execute("XREVRANGE", AUDIT_STREAM, start, "-", "COUNT", PAGE_ROWS)
    entries = [_read(row) for row in rows]
    return entries, entries[-1].entry_id if len(entries) == PAGE_ROWS else ""


async def find(redis: Redis, entry_id: str) -> AuditEntry | None:
    """Return one entry; None if no entry has that id."""
    if not _is_id(entry_id):
        return None
    rows = await redis.execute("XRANGE", AUDIT_STREAM, entry_id, entry_id)
    return _read(rows[0]) if rows else None


def _read(row: tuple[bytes, list[bytes]]) -> AuditEntry:
    entry_id, flat = row[0].decode(), row[1]
    fields = as_text(flat)
    counted = fields.get("count", "")
    return AuditEntry(
        entry_id,
        int(entry_id.partition("-")[0]) / 1000,
        fields.get("who", ""),
        fields.get("action", ""),
        int(counted) if counted.isdecimal() else 0,
        fields.get("targets", ""),
        fields.get("result", ""),
        fields.get("replica", ""),
    )


def _is_id(text: str) -> bool:
    milliseconds, _, sequence = text.partition("-")
    return all(each.isascii() and each.isdigit() and len(each) <= 20 for each in (milliseconds, sequence))
