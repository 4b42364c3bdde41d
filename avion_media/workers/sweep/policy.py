"""Decide about one media item, from its objects in the store and its state on Redis. Pure: no I/O, no clock.

Three rules come first. Objects younger than the margin are left alone, because work on them may be in progress. Media
items that have a task are left alone, because the task decides. And no upload that may have been accepted is removed:
if it is unknown whether an upload was completed, it is processed.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from avion_media.backends.store import ListedObject
from avion_media.common.errors import SERVICE_FAULTS, Reason
from avion_media.common.tasks import State
from avion_media.workers.settings import WorkerSettings

_CLOCK_SKEW = timedelta(minutes=5)  # between the store's clock, which gives the age of objects, and the clock of Redis

MAX_CANDIDATES = 10_000  # the next sweep removes what exceeds this


class SweepReason(StrEnum):
    """Why the sweep acts on a media item."""

    LOST_TASK = "lost_task"
    ABANDONED = "abandoned"
    LEFTOVER = "leftover"
    ORPHAN = "orphan"
    EXPIRED = "expired"
    OVER_BUDGET = "over_budget"
    OVERDUE_DELETION = "overdue_deletion"
    UNFINISHED = "unfinished"
    DISOWNED = "disowned"
    UNINDEXED = "unindexed"
    EVIDENCE = "evidence"


MEANINGS: dict[SweepReason, str] = {
    SweepReason.LOST_TASK: "completed, but its task was lost: queued again",
    SweepReason.ABANDONED: "uploaded, but never completed: removed",
    SweepReason.LEFTOVER: "processed or rejected, but its upload was left over: upload removed",
    SweepReason.ORPHAN: "thumbnails or content credentials without an original: removed",
    SweepReason.EXPIRED: "remote, neither fetched nor requested within `REMOTE__TTL`: removed",
    SweepReason.OVER_BUDGET: "remote, among the least recently used while the cache exceeds `REMOTE__BUDGET`: removed",
    SweepReason.OVERDUE_DELETION: "deleted, but its removal is overdue: queued again",
    SweepReason.UNFINISHED: "an upload in parts that was not completed in time: parts removed",
    SweepReason.DISOWNED: "an index object whose media item is removed: index object removed",
    SweepReason.UNINDEXED: "an original without an index object for copies: index object written",
    SweepReason.EVIDENCE: "evidence whose time has passed: removed",
}


@dataclass(frozen=True, slots=True)
class Medium:
    """The listed objects of one media item. ``name`` is its id, as object keys have it."""

    name: str
    incoming: ListedObject | None = None
    original: ListedObject | None = None
    thumbnails: tuple[ListedObject, ...] = ()
    credentials: ListedObject | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is a remote hash."""
        return len(self.name) == 64

    @property
    def objects(self) -> tuple[ListedObject, ...]:
        """All of its objects."""
        return tuple(each for each in (self.incoming, *self.served) if each is not None)

    @property
    def served(self) -> tuple[ListedObject, ...]:
        """Original, thumbnails and content credentials."""
        return tuple(each for each in (self.original, *self.thumbnails, self.credentials) if each is not None)


@dataclass(frozen=True, slots=True)
class KnownState:
    """The state of one media item on Redis. ``reason`` is why it failed, if it did.

    ``tombstone`` is when it was deleted, ``last_use`` when it was last requested. A copy of a remote file is kept for
    ``ttl`` after that, the longest of the kinds that it was requested as.

    ``has_task``: a task to make it waits or runs. ``given_up``: its task is a dead letter. An operator decides about
    it, and needs the upload for a replay.
    """

    state: State | None = None
    reason: Reason | None = None
    tombstone: datetime | None = None
    has_task: bool = False
    given_up: bool = False
    last_use: datetime | None = None
    ttl: timedelta | None = None


NOTHING_KNOWN = KnownState()


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured limits. ``history_complete_since``: Redis may lack tasks that are older, because it lost data
    then."""

    margin: timedelta
    url_ttl: timedelta
    remote_ttl: timedelta
    delete_delay: timedelta
    history_complete_since: datetime

    @classmethod
    def of(cls, config: WorkerSettings, history_complete_since: datetime) -> Rules:
        """The rules of a configuration."""
        return cls(
            margin=timedelta(seconds=config.sweep.margin),
            url_ttl=timedelta(seconds=config.upload.url_ttl),
            remote_ttl=timedelta(seconds=config.remote.ttl),
            delete_delay=timedelta(seconds=config.delete.delay),
            history_complete_since=history_complete_since,
        )


@dataclass(frozen=True, slots=True)
class SweepDecision:
    """What the sweep does about one media item. ``to_delete`` are the objects to remove; none if a task is queued.

    ``last_use``: the last request for a remote media item that this decision is based on.
    """

    medium: Medium
    reason: SweepReason
    to_delete: tuple[ListedObject, ...] = ()
    last_use: datetime | None = None

    @property
    def removes_upload(self) -> bool:
        """Whether the upload is among the objects to remove."""
        return self.medium.incoming is not None and self.medium.incoming in self.to_delete

    @property
    def size_bytes(self) -> int:
        """Bytes of the objects to remove."""
        return sum(each.size_bytes for each in self.to_delete)


def decide(medium: Medium, known: KnownState, rules: Rules, now: datetime) -> SweepDecision | None:
    """Return the decision about one media item; None if nothing is wrong, or it must be left alone for now.

    The status of the media item is needed only if it has an upload.
    """
    if known.tombstone is not None:  # its task removes it, until that is overdue by the margin
        is_overdue = now > known.tombstone + rules.delete_delay + rules.margin
        return SweepDecision(medium, SweepReason.OVERDUE_DELETION) if is_overdue else None
    if known.has_task:
        return None
    if medium.incoming is not None:
        return None if known.given_up else _decide_upload(medium, medium.incoming, known, rules, now)
    if medium.original is None:
        old = all(_age(each, now) > rules.margin for each in medium.served)
        return SweepDecision(medium, SweepReason.ORPHAN, medium.served) if old and medium.served else None
    needed = last_needed(medium, known)
    if medium.is_remote and needed is not None and now - needed > (known.ttl or rules.remote_ttl):
        return SweepDecision(medium, SweepReason.EXPIRED, medium.served, known.last_use)
    return None


def last_needed(medium: Medium, known: KnownState) -> datetime | None:
    """Return when a remote media item was fetched or last requested, whichever is later; None without an original."""
    if medium.original is None:
        return None
    fetched = medium.original.last_modified
    return fetched if known.last_use is None else max(fetched, known.last_use)


def _decide_upload(
    medium: Medium, incoming: ListedObject, known: KnownState, rules: Rules, now: datetime
) -> SweepDecision | None:
    state = known.state
    if known.reason in SERVICE_FAULTS:
        return None  # a replay of its task needs the upload; the bucket's lifecycle rule removes it later
    if state in (None, State.PROCESSING) and incoming.last_modified < rules.history_complete_since:
        return SweepDecision(medium, SweepReason.LOST_TASK)  # it may have been completed, and its task may be lost
    if _age(incoming, now) <= rules.margin:
        return None
    if state is State.PROCESSING:
        return SweepDecision(medium, SweepReason.LOST_TASK)
    if medium.original is not None or (state is not None and state.final):
        return SweepDecision(medium, SweepReason.LEFTOVER, (incoming,))
    if _age(incoming, now) <= rules.url_ttl + rules.margin:
        return None
    if incoming.last_modified < rules.history_complete_since + _CLOCK_SKEW:
        return SweepDecision(medium, SweepReason.LOST_TASK)
    return SweepDecision(medium, SweepReason.ABANDONED, (incoming,))


def _age(listed: ListedObject, now: datetime) -> timedelta:
    return now - listed.last_modified


class Budget:
    """Adds up all remote media that stay, and selects those to remove. ``budget_bytes`` 0: unlimited."""

    def __init__(self, budget_bytes: int, max_candidates: int = MAX_CANDIDATES) -> None:
        self._budget_bytes = budget_bytes
        self._max_candidates = max_candidates
        self._total_bytes = 0
        # A heap of the least recently used. The most recently used of these is on top.
        self._unused: list[tuple[float, str, Medium, KnownState]] = []

    def add(self, medium: Medium, known: KnownState = NOTHING_KNOWN) -> None:
        """Add a remote media item that no other rule removes. Its size counts even if it must not be removed."""
        if not self._budget_bytes:
            return
        self._total_bytes += _size_bytes(medium)
        used_at = last_needed(medium, known)
        if used_at is None or known.tombstone is not None or known.has_task:
            return
        item = (-used_at.timestamp(), medium.name, medium, known)
        if len(self._unused) < self._max_candidates:
            heapq.heappush(self._unused, item)
        else:
            heapq.heappushpop(self._unused, item)

    def decisions(self) -> list[SweepDecision]:
        """Return as many removals as the budget requires, the least recently used first."""
        excess_bytes = self._total_bytes - self._budget_bytes
        decisions = []
        for _, _, medium, known in sorted(self._unused, key=lambda item: item[:2], reverse=True):
            if excess_bytes <= 0 or not self._budget_bytes:
                break
            decisions.append(SweepDecision(medium, SweepReason.OVER_BUDGET, medium.served, known.last_use))
            excess_bytes -= _size_bytes(medium)
        return decisions


def _size_bytes(medium: Medium) -> int:
    return sum(each.size_bytes for each in medium.served)
