"""Writes the audit log of one process.

A process has up to three chains: actions of people, calls of services, and what was refused. A reader finds the few
actions of people without reading millions of calls, and refusals cannot push out anything. All three are written as
objects of which each holds every record that waits; a write is conditional, so no object is ever replaced.

What people do is in the bucket before they get an answer. Calls and refusals are collected in memory, which is
bounded: what exceeds a bound is counted, and the count is recorded. A process that is killed loses the counts of the
present minute, and the listed calls of the last second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Final

import trio

from avion_media.backends.store import ObjectStore, StoreRefused
from avion_media.backends.store.contents import read_if_there
from avion_media.common.clock import now_s, utc_now
from avion_media.common.errors import Dependency, PreconditionFailed, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.common.telemetry import instruments
from avion_media.process.audit.reading import AuditQuery, read
from avion_media.process.audit.record import (
    END,
    LOST,
    OUTAGE,
    SERVICE,
    START,
    AuditRecord,
    Kind,
    drafts,
    object_key,
    seal,
    write_line,
)
from trio_redis import run_all
from trio_telemetry import NO_TELEMETRY, Telemetry, get_logger

MAX_LISTED: Final = 100_000
"""Ids of calls that wait in memory, about 4 MB. A healthy bucket takes them once a second."""
MAX_COUNTED: Final = 10_000
"""Pairs of caller and audience that are counted apart, for all minutes that wait; the same for refusals."""
MAX_REFUSED: Final = 1_000
"""Refusals that are counted apart in one minute; all others are counted together."""
CONTENT_TYPE: Final = "application/x-ndjson"
_WRITE_S: Final = 5.0
_PERIOD_S: Final = 1.0
_RETRY_S: Final = 5.0
_MINUTE_S: Final = 60
_HASHES_EVERY_S: Final = 60.0
_MAX_OBJECT_BYTES: Final = 64 << 20
_MAX_FOUND: Final = 1000
_FIND_S: Final = 30.0
_log = get_logger(path="audit")


@dataclass(frozen=True, slots=True)
class _Sealed:
    """An object that is to be written, as often as it takes: the bucket may have it, although no answer came."""

    key: str
    body: bytes
    last: AuditRecord
    count: int


class Chain:
    """One chain of one process: the records that wait, and where the chain ends in the bucket."""

    def __init__(self, store: ResourceSlot[ObjectStore], process: str, about: str, telemetry: Telemetry) -> None:
        self.process = process
        self.seq = 0
        self.hash = ""
        self.failing_since = 0.0  # Unix seconds; 0 while writes succeed
        self.turned_away = 0  # actions that were refused because the log could not be written
        self.has_ended = False
        self._about = about
        self._waiting: list[AuditRecord] = []
        self._sealed: _Sealed | None = None
        self._number = 0
        self._day = date.min
        self._has_begun = False
        self._store = store
        self._telemetry = telemetry
        self._lock = trio.Lock()

    @property
    def has_begun(self) -> bool:
        """Whether it has, or will have, a first record."""
        return self._has_begun

    @property
    def is_written(self) -> bool:
        """Whether the bucket has all records."""
        return not self._waiting and self._sealed is None

    def begin(self) -> None:
        """Begin the chain with a record, unless it has begun."""
        if not self._has_begun:
            self._has_begun = True
            self._waiting += drafts(SERVICE, SERVICE, START, [], note=self._about)

    def add(self, records: Iterable[AuditRecord]) -> None:
        """Add records, which wait for `write`."""
        self.begin()
        self._waiting += records

    def end(self) -> None:
        """Add the last record to a chain that has begun."""
        if self.seq == 0 and len(self._waiting) <= 1:
            self._waiting.clear()  # there is nothing to tell but the start
            self._sealed = None
        elif not self.has_ended:
            self._waiting += drafts(SERVICE, SERVICE, END, [])
        self.has_ended = True

    async def write(self) -> None:
        """Write all records that wait, with those of other tasks in one object. Raises `Unavailable`.

        After an error or a cancel the records wait for the next write.
        """
        async with self._lock:
            while not self.is_written:
                try:
                    await self._write_object()
                except Unavailable:
                    self.failing_since = self.failing_since or now_s()
                    self._telemetry.count(instruments.AUDIT_FAILURES)
                    raise
                if self.failing_since:
                    self._note_outage()

    async def _write_object(self) -> None:
        sealed = self._sealed = self._sealed or self._seal()
        if await self._put(sealed):
            self.seq, self.hash, self._sealed = sealed.last.seq, sealed.last.hash, None
            del self._waiting[: sealed.count]
        else:  # somebody else wrote an object with this name: `verify` reports it, and the chain continues behind it
            _log.error("audit.object_is_foreign", key=sealed.key)
            self._sealed = None

    def _seal(self) -> _Sealed:
        self._number += 1
        body, seq, prev = bytearray(), self.seq, self.hash
        for draft in self._waiting:
            seq += 1
            record = seal(draft, self.process, seq, prev)
            prev = record.hash
            body += write_line(record)
        self._day = max(self._day, utc_now().date())  # a clock that is set back must not change the order of objects
        key = object_key(self._day, self.process, self._number)
        return _Sealed(key, bytes(body), record, len(self._waiting))

    async def _put(self, sealed: _Sealed) -> bool:
        """Write one object. Return False if its name is taken by another content. Raises `Unavailable`."""
        store = self._store.get()
        try:
            with trio.fail_after(_WRITE_S):
                if not store.state.is_available:
                    await store.ping()  # ends at once if it is cancelled, unlike a write
                try:
                    await store.put(sealed.key, sealed.body, content_type=CONTENT_TYPE, only_if_absent=True)
                except PreconditionFailed:  # most likely an earlier attempt, whose answer was lost
                    return await read_if_there(store, sealed.key, max_bytes=_MAX_OBJECT_BYTES) == sealed.body
        except trio.TooSlowError:
            raise Unavailable(Dependency.STORE, f"the audit log was not written within {_WRITE_S:g} s") from None
        except StoreRefused as error:
            raise Unavailable(Dependency.STORE, f"it refuses the audit log: {error}") from error
        return True

    def _note_outage(self) -> None:
        since, until = (datetime.fromtimestamp(each, UTC).isoformat() for each in (self.failing_since, now_s()))
        note = f"the bucket took no records from {since} to {until}; actions refused meanwhile: {self.turned_away}"
        self._waiting[:0] = drafts(SERVICE, SERVICE, OUTAGE, self.turned_away, note=note)
        self.failing_since, self.turned_away = 0.0, 0


@dataclass(slots=True)
class _Listed:
    at: float
    trace: str
    ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Counted:
    calls: int = 0
    targets: int = 0
    first: str = ""


class AuditLog:
    """The audit log of one process. The methods without ``async`` never wait, and touch only memory."""

    def __init__(
        self, store: ResourceSlot[ObjectStore], process: str, about: str = "", telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self.process = process
        self._store = store
        self.chains = {kind: Chain(store, f"{process}{kind}", about, telemetry) for kind in Kind}
        self._people = self.chains[Kind.PEOPLE]
        self._telemetry = telemetry
        self._listed: dict[tuple[str, str, str, str, str], _Listed] = {}
        self._listed_ids = 0
        self._counted: dict[tuple[int, str, str, str, str], _Counted] = {}
        self._refused: dict[tuple[int, str, str, str, str], _Counted] = {}
        self._refused_now = (0, 0)  # the present minute, and how many are counted apart in it
        self._lost = 0
        self._logged: dict[Kind, str] = {}
        self._collected = trio.Event()  # something waits to be written, or to be counted to the end of its minute

    @property
    def failing_for_s(self) -> float:
        """Seconds since the first of the writes that fail; 0 while they succeed."""
        failing = [each.failing_since for each in self.chains.values() if each.failing_since]
        return now_s() - min(failing) if failing else 0.0

    # -- people

    def begin(self) -> None:
        """Record the start of this process, as soon as the bucket takes it."""
        self._people.begin()

    async def require(self) -> None:
        """Make sure that the bucket takes the record of an action that is to be carried out. Raises `Unavailable`."""
        if self._people.has_ended:
            raise Unavailable(Dependency.STORE, "this process stops, and its audit log has ended")
        self._people.begin()
        try:
            await self._people.write()
        except Unavailable:
            self._people.turned_away += 1
            raise

    async def record(self, records: Iterable[AuditRecord]) -> None:
        """Write the records of an action. Raises `Unavailable`; then they are written later."""
        self._people.add(records)
        await self._people.write()

    # -- services

    def list_call(self, entrance: str, actor: str, action: str, ids: Sequence[str], outcome: str, note: str) -> None:
        """Record a call with the ids that it changed, within a second."""
        if self._listed_ids + len(ids) > MAX_LISTED:
            self._lose(len(ids))
            return
        key = (entrance, actor, action, outcome, note)
        listed = self._listed.get(key)
        if listed is None:
            listed = self._listed[key] = _Listed(now_s(), self.trace())
        listed.ids += ids
        self._listed_ids += len(ids)
        self._collected.set()

    def count_call(self, entrance: str, actor: str, action: str, note: str, targets: int) -> None:
        """Count a call, to be recorded at the end of the minute."""
        key = (int(now_s()) // _MINUTE_S, entrance, actor, action, note)
        counted = self._counted.get(key)
        if counted is None:
            if len(self._counted) >= MAX_COUNTED:
                self._lose(targets)
                return
            counted = self._counted[key] = _Counted()
        counted.calls += 1
        counted.targets += targets
        self._collected.set()

    def refuse(self, entrance: str, actor: str, action: str, code: str, target: str = "") -> None:
        """Count what was refused and changed nothing, to be recorded at the end of the minute."""
        minute = int(now_s()) // _MINUTE_S
        known, apart = self._refused_now
        apart = apart if known == minute else 0
        key = (minute, entrance, actor, action, code)
        if key not in self._refused:
            if len(self._refused) >= MAX_COUNTED:  # in a long outage: without their minutes
                key, target = (0, entrance, "*", "*", code), ""
            elif apart >= MAX_REFUSED:
                key, target = (minute, entrance, "*", "*", code), ""
            apart += 1
        self._refused_now = minute, apart
        counted = self._refused.setdefault(key, _Counted(first=target))
        counted.calls += 1
        self._collected.set()

    def _lose(self, targets: int) -> None:
        self._lost += targets
        self._collected.set()
        self._telemetry.count(instruments.AUDIT_LOST, targets)

    def trace(self) -> str:
        """Return the id of the present trace; empty if there is none."""
        return self._telemetry.traceparent()[3:35]  # https://www.w3.org/TR/trace-context/

    async def find(self, text: str) -> list[AuditRecord]:
        """Return the actions of people that name a media item or host, newest first, at most a thousand."""
        found, _older = await read(self._store, AuditQuery(text=text), most=_MAX_FOUND, within_s=_FIND_S)
        return found

    # -- writing

    async def run(self) -> None:
        """Write what was collected, once a second, and log the last hashes, once a minute. Never returns.

        A process without calls is woken for the hashes alone. A bucket that takes nothing is tried more rarely.
        """
        hashes_at = trio.current_time() + _HASHES_EVERY_S
        while True:
            await self.write_collected()
            if trio.current_time() >= hashes_at:
                hashes_at = trio.current_time() + _HASHES_EVERY_S
                self.log_hashes()
            await trio.sleep(_RETRY_S if self.failing_for_s else _PERIOD_S)
            if self._is_idle:
                self._collected = trio.Event()
                with trio.move_on_at(hashes_at):
                    await self._collected.wait()

    @property
    def _is_idle(self) -> bool:
        """Whether nothing waits to be written, or for the end of its minute."""
        collected = self._listed or self._counted or self._refused or self._lost
        return not collected and all(each.is_written for each in self.chains.values())

    async def write_collected(self, *, all_minutes: bool = False) -> None:
        """Write what waits: calls with their ids, counts of minutes that have passed, and all that could not be
        written before. What the bucket does not take waits for the next time."""
        if self.chains[Kind.CALLS].is_written:
            self._collect_calls(all_minutes=all_minutes)
        if self.chains[Kind.REFUSED].is_written:
            self._collect_refused(all_minutes=all_minutes)
        await self._write_all()

    async def _write_all(self) -> None:
        waiting = [each for each in self.chains.values() if not each.is_written]
        await run_all([partial(self._write, each) for each in waiting], len(Kind))

    async def _write(self, chain: Chain) -> None:
        with suppress(Unavailable):  # it is counted, and an alert follows
            await chain.write()

    def _collect_calls(self, *, all_minutes: bool) -> None:
        chain, now = self.chains[Kind.CALLS], int(now_s()) // _MINUTE_S
        listed, self._listed, self._listed_ids = self._listed, {}, 0
        for (entrance, actor, action, outcome, note), each in listed.items():
            chain.add(
                drafts(entrance, actor, action, each.ids, at=each.at, outcome=outcome, note=note, trace=each.trace)
            )
        for key in [key for key in self._counted if all_minutes or key[0] < now]:
            minute, entrance, actor, action, audience = key
            counted = self._counted.pop(key)
            note = f"{counted.calls} calls in a minute" + (f", {audience}" if audience else "")
            chain.add(drafts(entrance, actor, action, counted.targets, at=minute * _MINUTE_S, note=note))
        if self._lost:
            note = "ids of calls that memory had no room for"
            chain.add(drafts(SERVICE, SERVICE, LOST, self._lost, note=note))
            self._lost = 0

    def _collect_refused(self, *, all_minutes: bool) -> None:
        chain, now = self.chains[Kind.REFUSED], int(now_s()) // _MINUTE_S
        for key in [key for key in self._refused if all_minutes or key[0] < now]:
            minute, entrance, actor, action, code = key
            counted = self._refused.pop(key)
            note = f"refused in a minute{f', the first: {counted.first}' if counted.first else ''}"
            about = drafts(entrance, actor, action, counted.calls, at=minute * _MINUTE_S, outcome=code, note=note)
            chain.add(about)

    def log_hashes(self) -> None:
        """Log the last hash of each chain that went on, so that a rewritten bucket can be noticed."""
        for kind, chain in self.chains.items():
            if self._logged.get(kind, "") != chain.hash:
                self._logged[kind] = chain.hash
                _log.info("audit.hash", process=chain.process, seq=chain.seq, hash=chain.hash)

    async def close(self) -> None:
        """Write all that was collected, and end the chains that have begun. What fails is lost, which `verify`
        reports as a missing end."""
        self._collect_calls(all_minutes=True)
        self._collect_refused(all_minutes=True)
        for chain in self.chains.values():
            chain.end()
        await self._write_all()
        self.log_hashes()
