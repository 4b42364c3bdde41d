"""One record of the audit log, its hash, and the keys of its objects. No I/O.

The hash of a record is the SHA-256, in hex, of its canonical JSON without ``hash``: keys sorted, no blanks, and other
characters than ASCII as ``\\uXXXX``. ``prev`` is the hash of the record before, and empty for the first of a chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final

from avion_media.common.clock import now_s
from avion_media.common.records import CustomRecord

AUDIT_PREFIX: Final = "audit/"
OK: Final = "ok"
SERVICE: Final = "-"
"""The actor and entrance of what the service records about itself."""
MAX_TARGETS: Final = 1000
"""Targets of one record."""
START, END, LOST, OUTAGE, EXPIRED = "start", "end", "lost", "outage", "expire"
"""The actions of records that the log makes about itself."""
_MAX_TEXT: Final = 2000  # characters of a note or target: an object stays small, whatever a caller sends
_SUFFIX: Final = ".jsonl"


class Kind(StrEnum):
    """The chains of a process, by the end of their name: actions of people, calls of services, what was refused."""

    PEOPLE = ""
    CALLS = ".calls"
    REFUSED = ".refused"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One record. ``target`` has ids or hosts, or their number. ``time`` is ISO 8601 in UTC."""

    entrance: str
    actor: str
    action: str
    target: tuple[str, ...] | int
    outcome: str = OK
    note: str = ""
    trace: str = ""
    time: str = ""
    process: str = ""
    seq: int = 0
    prev: str = ""
    hash: str = ""

    @property
    def at(self) -> float:
        """Its time, in Unix seconds."""
        return datetime.fromisoformat(self.time).timestamp()

    @property
    def entry_id(self) -> str:
        """Its name: that of its chain, and its number there."""
        return f"{self.process}/{self.seq}"

    @property
    def is_about_the_log(self) -> bool:
        """Whether it marks the start or the end of a chain."""
        return self.action in (START, END)

    @property
    def targets(self) -> str:
        """The first few targets as text, or their number."""
        return f"{self.target:,}" if isinstance(self.target, int) else first_few(self.target, 5)[:300]

    def document(self) -> dict[str, Any]:
        """Return its fields for programs."""
        return asdict(self)

    def shown(self) -> dict[str, str]:
        """Return what the service's log has of it."""
        about = {"entrance": self.entrance, "actor": self.actor, "action": self.action, "targets": self.targets}
        return {**about, "outcome": self.outcome, "note": self.note}

    def contains(self, text: str) -> bool:
        """Return whether a field contains the text, or its day does (``2026-12-01``, ``1 Dec 2026``; UTC)."""
        wanted = text.casefold()
        at = datetime.fromisoformat(self.time)
        shown = (self.entrance, self.actor, self.action, self.outcome, self.note, self.trace, self.process)
        days = (f"{at:%Y-%m-%d}", f"{at:%-d %b %Y}")
        ids = () if isinstance(self.target, int) else self.target
        return any(wanted in each.casefold() for each in (*shown, *days, *ids))


def first_few(names: Sequence[str], most: int) -> str:
    """Return the first names as text, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def drafts(
    entrance: str,
    actor: str,
    action: str,
    target: Sequence[str] | int,
    *,
    outcome: str = OK,
    note: str = "",
    trace: str = "",
    at: float = 0.0,
) -> Iterator[AuditRecord]:
    """Yield the records of one action, of which each has at most `MAX_TARGETS` targets. Chains make them complete.

    ``at`` is the time of the action; 0: now.
    """
    time = datetime.fromtimestamp(at or now_s(), UTC).isoformat(timespec="milliseconds")
    draft = AuditRecord(entrance, actor[:_MAX_TEXT], action, 0, outcome, note[:_MAX_TEXT], trace, time)
    if isinstance(target, int):
        yield replace(draft, target=target)
        return
    for first in range(0, max(1, len(target)), MAX_TARGETS):
        ids = tuple(each[:_MAX_TEXT] for each in target[first : first + MAX_TARGETS])
        yield replace(draft, target=ids)


def canonical(document: dict[str, Any]) -> bytes:
    """Return the JSON of which hashes are made."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def hash_of(record: AuditRecord) -> str:
    """Return the hash of a record, whatever its field ``hash`` is."""
    document = asdict(record)
    del document["hash"]
    return hashlib.sha256(canonical(document)).hexdigest()


def seal(draft: AuditRecord, process: str, seq: int, prev: str) -> AuditRecord:
    """Return the record at its place in a chain."""
    placed = replace(draft, process=process, seq=seq, prev=prev)
    return replace(placed, hash=hash_of(placed))


def write_line(record: AuditRecord) -> bytes:
    """Return a record as a line of an object."""
    return canonical(asdict(record)) + b"\n"


def read_line(line: bytes) -> AuditRecord:
    """Return the record of a line. Raises ValueError."""
    return _parse(line.decode(), "")


def _parse(text: str, _key: str) -> AuditRecord:
    found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(target := found.get("target"), list | int):
        raise ValueError("it is not a record of the audit log")
    known = {name: found[name] for name in _FIELDS if name in found}
    known["target"] = target if isinstance(target, int) else tuple(map(str, target))
    try:
        return AuditRecord(**known)
    except TypeError as error:
        raise ValueError(str(error)) from None


_FIELDS: Final = tuple(each.name for each in dataclass_fields(AuditRecord))
AUDIT: Final = CustomRecord(
    "audit",
    AuditRecord,
    "audit/<yyyy>/<mm>/<dd>/<process>/<n>.jsonl",
    "each process and command that changes something; one record a line",
    fields=_FIELDS,
    parse=_parse,
)


def day_prefix(day: date) -> str:
    """Return the prefix of all objects of a day."""
    return f"{AUDIT_PREFIX}{day:%Y/%m/%d}/"


def object_key(day: date, process: str, number: int) -> str:
    """Return the key of one object of a chain."""
    return f"{day_prefix(day)}{process}/{number:08}{_SUFFIX}"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What the key of an object says: its day, its chain, and its number."""

    day: date
    process: str
    number: int

    @property
    def key(self) -> str:
        """The key."""
        return object_key(self.day, self.process, self.number)


def place_of(key: str) -> Place | None:
    """Return what a key says; None if it is not that of an object of the log."""
    parts = key.removeprefix(AUDIT_PREFIX).removesuffix(_SUFFIX).split("/")
    try:
        year, month, day, process, number = parts
        found = Place(date(int(year), int(month), int(day)), process, int(number))
    except ValueError:
        return None
    return found if found.key == key else None


def kind_of(process: str) -> Kind:
    """Return what is on a chain, by its name."""
    return next((kind for kind in (Kind.CALLS, Kind.REFUSED) if process.endswith(kind)), Kind.PEOPLE)


def owner_of(process: str) -> str:
    """Return the name of the process that writes a chain."""
    return process.removesuffix(kind_of(process))
