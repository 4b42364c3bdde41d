"""Checks the chains of the audit log: names what is missing, what was changed, and which chain has no end.

A running process has an open chain, which is not a gap. The chain of a process that was killed has no end, either: a
record ``lost`` of the process that noticed it explains that. Where the sweep removed old days, its record has the
seams, so a chain that begins behind one is whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import read_many
from avion_media.process.audit.record import (
    AUDIT_PREFIX,
    END,
    EXPIRED,
    LOST,
    AuditRecord,
    Place,
    day_prefix,
    hash_of,
    place_of,
    read_line,
)

MAX_OBJECT_BYTES: Final = 64 << 20
_AT_ONCE: Final = 64
_SEAM: Final = re.compile(r"\S+ \d+ \d+ \w+")
IsRunning = Callable[[str, datetime], bool]
"""Returns whether the process of a chain may still write, by the chain's name and the time of its last record."""


def seam(process: str, number: int, record: AuditRecord) -> str:
    """Return where a chain is at a record in its object with this number, as records about other chains name it."""
    return f"{process} {number} {record.seq} {record.hash}"


@dataclass(slots=True)
class _State:
    """Where a chain is. ``before`` is the seam at which it begins, empty at its real beginning."""

    number: int
    before: str = ""
    seq: int = 0
    hash: str = ""
    last: AuditRecord | None = None


@dataclass(slots=True)
class Findings:
    """What a check found. Only ``gaps`` mean that something is wrong."""

    objects: int = 0
    records: int = 0
    chains: int = 0
    gaps: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)


class ChainChecker:
    """Checks objects that come day by day, and in the order of their keys. Memory grows with the chains only.

    ``hashes`` are hashes by chain that were noted elsewhere, such as in the log: each must be there.
    """

    def __init__(self, hashes: Mapping[str, Collection[str]] | None = None) -> None:
        self.found = Findings()
        self._states: dict[str, _State] = {}
        self._seams: set[str] = set()
        self._ends: dict[str, set[str]] = {}  # by chain: where records `lost` say that it ended
        self._wanted = {process: set(each) for process, each in (hashes or {}).items()}

    def add(self, key: str, body: bytes | None) -> None:
        """Check one object; None: it was listed, but is gone."""
        place = place_of(key)
        if place is None:
            self._gap(f"{key}: not an object of the audit log")
            return
        if body is None:
            return
        state = self._states.setdefault(place.process, _State(place.number - 1))
        self.found.objects += 1
        missing = "" if place.number == state.number + 1 else _range("object", state.number + 1, place.number - 1)
        for number, line in enumerate(body.splitlines(), 1):
            missing = self._check_line(state, place, number, line, missing)
        state.number = place.number

    def _check_line(self, state: _State, place: Place, number: int, line: bytes, missing: str) -> str:
        """Check a line. ``missing`` are objects before it. Return those that no line has shown yet."""
        try:
            record = read_line(line)
        except ValueError:
            self._gap(f"{place.key}, line {number}: not a record")
            return missing
        self.found.records += 1
        if record.hash != hash_of(record):
            self._gap(
                f"{record.entry_id}: the record was changed, its hash is another one ({place.key}, line {number})"
            )
        if record.process != place.process:
            self._gap(f"{place.key}, line {number}: the record belongs to {record.process}")
            return missing
        if state.last is None and place.number > 1:
            state.before = f"{place.process} {place.number - 1} {record.seq - 1} {record.prev}"
        elif missing or record.seq != state.seq + 1:
            records = _range("record", state.seq + 1, record.seq - 1) if record.seq > state.seq + 1 else ""
            what = " with ".join(filter(None, (missing, records))) or f"the order of record {record.seq}"
            self._gap(f"{place.process}: {what}: missing before {place.key}, line {number}")
        elif record.prev != state.hash:
            self._gap(f"{record.entry_id}: it does not follow record {state.seq}, one of the two was changed")
        state.seq, state.hash, state.last = record.seq, record.hash, record
        self._wanted.get(place.process, set()).discard(record.hash)
        if record.action == EXPIRED and not isinstance(record.target, int):
            self._seams.update(record.target)
        if record.action == LOST and not isinstance(record.target, int):
            for each in filter(_SEAM.fullmatch, record.target):
                self._ends.setdefault(each.partition(" ")[0], set()).add(each)
        return ""

    def finish(self, is_running: IsRunning, *, begins_whole: bool = True, ends_whole: bool = True) -> Findings:
        """Check beginnings and ends, and return what was found.

        Not ``begins_whole`` or ``ends_whole``: the objects are those of a range, which can cut chains there.
        """
        self.found.chains = len(self._states)
        for process, state in sorted(self._states.items()):
            if begins_whole and state.before and state.before not in self._seams:
                number = int(state.before.split()[1])
                self._gap(f"{process}: {_range('object', 1, number)}: missing at the beginning of the chain")
            if ends_whole and state.last is not None and state.last.action != END:
                self._check_end(process, state, state.last, is_running)
        for process, hashes in self._wanted.items():
            for each in sorted(hashes):
                self._gap(f"{process}: no record has the hash {each}")
        return self.found

    def _check_end(self, process: str, state: _State, last: AuditRecord, is_running: IsRunning) -> None:
        where = f"{process}: no end after record {state.seq} of {last.time}"
        told = self._ends.get(process, set())
        if any(int(each.split()[2]) > state.seq for each in told):
            self._gap(f"{where}, although it went on until its process was lost")
        elif is_running(process, datetime.fromisoformat(last.time)):
            self.found.running.append(f"{process}: open after record {state.seq}, its process runs")
        elif seam(process, state.number, last) in told:
            self.found.explained.append(f"{where}; explained: its process was lost")
        else:
            self._gap(where)

    def _gap(self, text: str) -> None:
        self.found.gaps.append(text)


def _range(noun: str, first: int, last: int) -> str:
    return f"{noun} {first}" if first >= last else f"{noun}s {first} to {last}"


async def verify(
    store: ObjectStore,
    is_running: IsRunning,
    *,
    since: date | None = None,
    until: date | None = None,
    hashes: Mapping[str, Collection[str]] | None = None,
) -> Findings:
    """Check all chains, or the days from ``since`` to ``until``. Raises `Unavailable`.

    Reads each object once, some at a time. Of a range, the seams to the days around it are not checked.
    """
    checker = ChainChecker(hashes)
    async for keys, bodies in objects(store, since, until):
        for key in keys:
            checker.add(key, bodies.get(key))
    return checker.finish(is_running, begins_whole=since is None, ends_whole=until is None)


async def objects(
    store: ObjectStore, since: date | None, until: date | None
) -> AsyncGenerator[tuple[list[str], dict[str, bytes]], None]:
    """Iterate over the objects of these days, in the order of their keys: some keys, and the contents of those that are
    still there. Raises `Unavailable`."""
    after = None if since is None else day_prefix(since)
    behind = None if until is None else day_prefix(until + timedelta(days=1))
    async for page in store.list_keys(AUDIT_PREFIX, after):
        wanted = [key for key in page if behind is None or key < behind]
        for first in range(0, len(wanted), _AT_ONCE):
            keys = wanted[first : first + _AT_ONCE]
            yield keys, await read_many(store, keys, max_bytes=MAX_OBJECT_BYTES, at_once=16)
        if len(wanted) < len(page):
            return
