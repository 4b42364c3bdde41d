"""The audit log: records the actions of operators, with time and result, on Redis and in the log.

The list on Redis is for the console and is bounded; the log is the record that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from avion_media.backends.redis import Redis, as_text
from avion_media.common.errors import Unavailable
from avion_media.common.records import HashRecord
from avion_media.common.telemetry import get_logger

AUDIT_STREAM: Final = "media_console_audit"
KEPT: Final = 1000
PAGE_ROWS: Final = 50
_NAMED: Final = 5  # targets of one action that are recorded
_MAX_TEXT: Final = 300
_log = get_logger(path="console")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. ``targets`` are the first few of ``count``."""

    who: str = ""
    action: str = ""
    count: int = 0
    targets: str = ""
    result: str = ""
    replica: str = ""
    entry_id: str = ""

    @property
    def at(self) -> float:
        """When it was recorded (Unix seconds)."""
        return int(self.entry_id.partition("-")[0]) / 1000


AUDIT: Final = HashRecord("audit", AuditEntry, AUDIT_STREAM, "the console")


async def record(
    redis: Redis, *, who: str, action: str, count: int, targets: list[str], result: str, replica: str
) -> str:
    """Log an action and add it to the list. Return its id there; empty while Redis is unavailable."""
    named = ", ".join(targets[:_NAMED]) + (f" and {count - _NAMED} more" if count > _NAMED else "")
    fields = AUDIT.write(AuditEntry(who, action, count, named[:_MAX_TEXT], result[:_MAX_TEXT], replica))
    del fields["entry_id"]  # the id of the entry of the stream
    _log.info("console.action", **fields)
    flat = [part for pair in fields.items() for part in pair]
    try:
        entry_id: bytes = await redis.execute("XADD", AUDIT_STREAM, "MAXLEN", "~", KEPT, "*", *flat, when_full=True)
    except Unavailable:
        return ""
    return entry_id.decode()


async def read(redis: Redis, before: str = "") -> tuple[list[AuditEntry], str]:
    """Return a page of the list, newest first, and the cursor behind it. Raises `Unavailable`."""
    start = f"({before}" if _is_id(before) else "+"
    rows = await redis.execute("XREVRANGE", AUDIT_STREAM, start, "-", "COUNT", PAGE_ROWS)
    entries = [entry for row in rows if (entry := _read(row)) is not None]
    return entries, rows[-1][0].decode() if len(rows) == PAGE_ROWS else ""


async def find(redis: Redis, entry_id: str) -> AuditEntry | None:
    """Return one entry; None if no entry has that id."""
    if not _is_id(entry_id):
        return None
    rows = await redis.execute("XRANGE", AUDIT_STREAM, entry_id, entry_id)
    return _read(rows[0]) if rows else None


def _read(row: tuple[bytes, list[bytes]]) -> AuditEntry | None:
    entry_id, flat = row[0].decode(), row[1]
    return AUDIT.read_or_skip({**as_text(flat), "entry_id": entry_id}, f"{AUDIT_STREAM} {entry_id}")


def _is_id(text: str) -> bool:
    milliseconds, _, sequence = text.partition("-")
    return all(each.isascii() and each.isdigit() and len(each) <= 20 for each in (milliseconds, sequence))
