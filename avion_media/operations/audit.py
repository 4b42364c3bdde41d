"""The audit log: records the actions of operators, with time and result, on Redis and in the log.

The list on Redis is for the console and is bounded; the log is the record that is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from avion_media.backends.redis import Redis, as_text
from avion_media.common.errors import Unavailable
from avion_media.common.records import HashRecord
from trio_telemetry import get_logger

AUDIT_STREAM: Final = "media_console_audit"
EVENT: Final = "operator.action"
KEPT: Final = 1000
PAGE_ROWS: Final = 50
_NAMED: Final = 5  # targets of one action that are recorded
_MAX_TEXT: Final = 300
_log = get_logger()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. ``targets`` are the first few of ``count``. ``replica`` is the host that carried it out."""

    who: str = ""
    action: str = ""
    count: int = 0
    targets: str = ""
    note: str = ""
    result: str = ""
    replica: str = ""
    entry_id: str = ""

    @property
    def at(self) -> float:
        """When it was recorded (Unix seconds)."""
        return int(self.entry_id.partition("-")[0]) / 1000

    def document(self) -> dict[str, Any]:
        """Return the entry for programs, with its time as ISO 8601 (UTC)."""
        return {"at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds"), **asdict(self)}

    def contains(self, text: str) -> bool:
        """Return whether one of its fields contains the text, or its day (``2026-12-01``, ``1 Dec 2026``; UTC)."""
        day = f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%d\n%-d %b %Y}"
        return any(text.casefold() in value.casefold() for value in (*self.fields().values(), day))

    def fields(self) -> dict[str, str]:
        """Return what is written, without the id of the entry in the stream."""
        fields = AUDIT.write(self)
        del fields["entry_id"]
        return fields


AUDIT: Final = HashRecord("audit", AuditEntry, AUDIT_STREAM, "operators")


def first_few(names: Sequence[str], most: int) -> str:
    """Return the first names as text, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def named(targets: Sequence[str]) -> str:
    """Return the first few targets as text."""
    return first_few(targets, _NAMED)[:_MAX_TEXT]


async def record(redis: Redis, entry: AuditEntry) -> AuditEntry:
    """Log an action and add it to the list. Return it with its id there, which is empty while Redis is unavailable."""
    entry = replace(entry, result=entry.result[:_MAX_TEXT])
    fields = entry.fields()
    _log.info(EVENT, **fields)
    flat = [part for pair in fields.items() for part in pair]
    try:
        entry_id: bytes = await redis.execute("XADD", AUDIT_STREAM, "MAXLEN", "~", KEPT, "*", *flat, when_full=True)
    except Unavailable:
        return entry
    return replace(entry, entry_id=entry_id.decode())


async def read(
    redis: Redis, before: str = "", text: str = "", actions: Collection[str] = (), most: int = PAGE_ROWS
) -> tuple[list[AuditEntry], str]:
    """Return a page of the entries that contain ``text`` or are of one of these actions, newest first, and the cursor
    behind it, which is empty at the end. Raises `Unavailable`."""
    start = f"({before}" if is_entry_id(before) else "+"
    rows = await redis.execute("XREVRANGE", AUDIT_STREAM, start, "-", "COUNT", 2 * KEPT if text else most + 1)
    entries = [entry for row in rows if (entry := _read(row)) is not None]
    found = [entry for entry in entries if entry.action in actions or entry.contains(text)]
    page = found[:most]
    return page, page[-1].entry_id if len(found) > most else ""


async def find(redis: Redis, entry_id: str) -> AuditEntry | None:
    """Return one entry; None if no entry has that id."""
    if not is_entry_id(entry_id):
        return None
    rows = await redis.execute("XRANGE", AUDIT_STREAM, entry_id, entry_id)
    return _read(rows[0]) if rows else None


def _read(row: tuple[bytes, list[bytes]]) -> AuditEntry | None:
    entry_id, flat = row[0].decode(), row[1]
    return AUDIT.read_or_skip({**as_text(flat), "entry_id": entry_id}, f"{AUDIT_STREAM} {entry_id}")


def is_entry_id(text: str) -> bool:
    """Return whether a text is the id of a stream's entry."""
    milliseconds, _, sequence = text.partition("-")
    return all(each.isascii() and each.isdigit() and len(each) <= 20 for each in (milliseconds, sequence))
