"""What to do with one medium, given what the store holds of it and what Redis knows. Pure: no I/O, no clock.

Three rules stand above all others. What is younger than the margin is left alone: it may belong to work in flight. What
a task still names is left alone: the task ends it. And what may have been promised to a client is never thrown away:
where it is not known whether an upload was completed, it is processed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from avion_media.config import Config
from avion_media.domain.errors import SERVICE_FAULTS, Reason
from avion_media.domain.tasks import State
from avion_media.store import ListedObject

_CLOCK_SKEW = timedelta(minutes=5)  # between the store's clock, which tells ages, and the server's that lost its memory


class SweepReason(StrEnum):
    """Why something is done about a medium."""

    LOST_TASK = "lost_task"
    ABANDONED = "abandoned"
    LEFTOVER = "leftover"
    ORPHAN = "orphan"
    EXPIRED = "expired"
    OVER_BUDGET = "over_budget"
    OVERDUE_DELETION = "overdue_deletion"
    UNFINISHED = "unfinished"
    DISOWNED = "disowned"


MEANINGS: dict[SweepReason, str] = {
    SweepReason.LOST_TASK: "completed, but its task is lost: queued again",
    SweepReason.ABANDONED: "uploaded, never completed: removed",
    SweepReason.LEFTOVER: "processed or refused, its upload was left: removed",
    SweepReason.ORPHAN: "thumbnails without their original: removed",
    SweepReason.EXPIRED: "remote, neither fetched nor asked for within its time to live: removed",
    SweepReason.OVER_BUDGET: "remote, among the longest unused while the cache is over its budget: removed",
    SweepReason.OVERDUE_DELETION: "deleted, but its removal is overdue: queued again",
    SweepReason.UNFINISHED: "an upload in parts that was not completed in time: its parts were removed",
    SweepReason.DISOWNED: "an index object of an owner whose medium is gone: removed",
}


@dataclass(frozen=True, slots=True)
class Medium:
    """All that the listings show of one medium. ``name`` is its id as the keys have it."""

    name: str
    incoming: ListedObject | None = None
    original: ListedObject | None = None
    thumbnails: tuple[ListedObject, ...] = ()

    @property
    def is_remote(self) -> bool:
        """Whether it is a remote hash."""
        return len(self.name) == 64

    @property
    def objects(self) -> tuple[ListedObject, ...]:
        """All of its objects."""
        return tuple(each for each in (self.incoming, self.original, *self.thumbnails) if each is not None)

    @property
    def served(self) -> tuple[ListedObject, ...]:
        """Original and thumbnails."""
        return tuple(each for each in (self.original, *self.thumbnails) if each is not None)


@dataclass(frozen=True, slots=True)
class KnownState:
    """What Redis knows of one medium. ``reason`` is why it failed, if it did.

    ``tombstone`` is when it was deleted, ``last_use`` when it was last asked for.

    ``has_task``, ``has_deletion``: a task to make or to remove it waits or runs. ``given_up``: its task is a dead
    letter, so an operator decides, and needs the upload to replay it.
    """

    state: State | None = None
    reason: Reason | None = None
    tombstone: datetime | None = None
    has_task: bool = False
    given_up: bool = False
    has_deletion: bool = False
    last_use: datetime | None = None


NOTHING_KNOWN = KnownState()


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured bounds. ``memory_since``: Redis knows nothing of what was before, as it lost its memory then."""

    margin: timedelta
    url_ttl: timedelta
    remote_ttl: timedelta
    delete_delay: timedelta
    memory_since: datetime

    @classmethod
    def of(cls, config: Config, memory_since: datetime) -> Rules:
        """The rules of a configuration."""
        return cls(
            margin=timedelta(seconds=config.sweep.margin),
            url_ttl=timedelta(seconds=config.upload.url_ttl),
            remote_ttl=timedelta(seconds=config.remote.ttl),
            delete_delay=timedelta(seconds=config.delete.delay),
            memory_since=memory_since,
        )

    def deletion_due(self, known: KnownState) -> datetime | None:
        """When the objects of a deleted medium are to be removed; None when it is not deleted."""
        return None if known.tombstone is None else known.tombstone + self.delete_delay


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about one medium. ``to_delete`` are the objects that go; none when a task is queued.

    ``last_use``: it rests on that, for a remote medium.
    """

    medium: Medium
    reason: SweepReason
    to_delete: tuple[ListedObject, ...] = ()
    last_use: datetime | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that go."""
        return sum(each.size_bytes for each in self.to_delete)


def needs_status(medium: Medium) -> bool:
    """Whether the medium's status matters for the decision."""
    return medium.incoming is not None


def decide(medium: Medium, known: KnownState, rules: Rules, now: datetime) -> Decision | None:
    """The decision on one medium; None when it is well, or to be left alone for now."""
    if known.tombstone is not None:
        return _decide_deleted(medium, known, rules, now)
    if known.has_task:
        return None
    if medium.incoming is not None:
        return None if known.given_up else _decide_upload(medium, medium.incoming, known, rules, now)
    if medium.original is None:
        old = all(_age(each, now) > rules.margin for each in medium.thumbnails)
        return Decision(medium, SweepReason.ORPHAN, medium.thumbnails) if old and medium.thumbnails else None
    needed = last_needed(medium, known)
    if medium.is_remote and needed is not None and now - needed > rules.remote_ttl:
        return Decision(medium, SweepReason.EXPIRED, medium.served, known.last_use)
    return None


def last_needed(medium: Medium, known: KnownState) -> datetime | None:
    """When a remote medium was fetched or last asked for, whichever was later; None without an original."""
    if medium.original is None:
        return None
    fetched = medium.original.last_modified
    return fetched if known.last_use is None else max(fetched, known.last_use)


def _decide_deleted(medium: Medium, known: KnownState, rules: Rules, now: datetime) -> Decision | None:
    """Until well past its time a deletion is left to its task, and may be undone."""
    due = rules.deletion_due(known)
    if known.has_deletion or due is None or now <= due + rules.margin:
        return None
    return Decision(medium, SweepReason.OVERDUE_DELETION)


def _decide_upload(
    medium: Medium, incoming: ListedObject, known: KnownState, rules: Rules, now: datetime
) -> Decision | None:
    state = known.state
    if known.reason in SERVICE_FAULTS:
        return None  # its task may be replayed, and needs the upload; the bucket's lifecycle rule is its end
    if state in (None, State.PROCESSING) and incoming.last_modified < rules.memory_since:
        return Decision(medium, SweepReason.LOST_TASK)  # it may have been completed, and no task remembers it
    if _age(incoming, now) <= rules.margin:
        return None
    if state is State.PROCESSING:
        return Decision(medium, SweepReason.LOST_TASK)
    if medium.original is not None or (state is not None and state.final):
        return Decision(medium, SweepReason.LEFTOVER, (incoming,))
    if _age(incoming, now) <= rules.url_ttl + rules.margin:
        return None
    if incoming.last_modified < rules.memory_since + _CLOCK_SKEW:
        return Decision(medium, SweepReason.LOST_TASK)
    return Decision(medium, SweepReason.ABANDONED, (incoming,))


def _age(listed: ListedObject, now: datetime) -> timedelta:
    return now - listed.last_modified
