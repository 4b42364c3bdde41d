"""The keys of a queue, and how a task is written: as a stream entry, a member of the delayed set, a dead letter.

Names are those of docs/contract.md, section 4, and of this service. The braces are literal: one cluster slot.

Besides the contract's fields an entry may carry what earlier attempts left: ``attempts`` (that failed),
``crashed_workers`` (the last three that crashed with it, as ``NAME@UNIX_SECONDS``), ``error`` (the last one),
``first_seen`` (Unix seconds), ``replays`` (from the dead letters) and ``replayed_at`` (the last time),
``unavailable_since`` (its objects cannot be read or written, or its format is unknown), ``once`` (the key under which
it is unique) and ``tenant`` (on whose account it goes if it has no owner). Other services know none of these. Whatever
they write is read without failing, within bounds: an entry beyond `MAX_FIELDS` or `MAX_BYTES` becomes a dead letter
that is cut to them. A member of the delayed set is the same fields as one JSON array of names and values, ``task_id``
first; a member of the backlog ends with such an array.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from avion_media.backends.redis import Argument, as_text
from avion_media.common.ids import InvalidId, RemoteIds, parse_any_id
from avion_media.common.records import CustomRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import CACHE_QUEUE, QUEUES, Task
from guarded_fetch import InvalidUrl, parse_remote_url

NEVER_GIVEN_UP = frozenset(name for name, queue in QUEUES.items() if not queue.gives_up)

# The consumer of the group that has each entry from its delivery until a worker confirms the start of its attempt.
UNCONFIRMED = "unconfirmed"
CONFIRM_S = 1.0  # for a worker to confirm the start of an attempt; then another worker may take the entry
_MAX_ERROR = 500  # characters: an error can quote untrusted input
MAX_FIELDS = 32  # of an entry, history aside: the contract's queues need five
MAX_BYTES = 16 << 10  # names and values together: the longest URL that is accepted has 2048
WAITING_HEADER = 27  # digits of a member of the backlog between its tenant and its entry: when it was queued, a number
HISTORY = (
    "attempts",
    "crashed_workers",
    "error",
    "first_seen",
    "replays",
    "replayed_at",
    "unavailable_since",
    "once",
    "tenant",
    "failed_at",
)
_OURS = frozenset({"task_id", "traceparent", *HISTORY})


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue."""

    stream: str

    @property
    def delayed(self) -> str:
        """Sorted set: tasks that are due later, by Unix seconds."""
        return f"{{{self.stream}}}:delayed"

    @property
    def dead_letters(self) -> str:
        """Stream: tasks given up."""
        return f"{{{self.stream}}}:dlq"

    @property
    def dead_letter_index(self) -> str:
        """Sorted set: subjects and ids of the dead letters (`find_dead_letters`)."""
        return f"{{{self.stream}}}:dlq_index"

    @property
    def state(self) -> str:
        """Hash: accounts of fair dispatch, and records of janitors and data losses.

        ``turn``: virtual time. ``entry:<entry>``: the tenant of an entry of the stream, if its tenant has a bound: all
        tenants of a queue with a cap, and those of videos. ``running:<tenant>``: the number of these entries of one
        tenant. ``videos``: the number of entries that are videos. ``parked:<tenant>``: until when a tenant gets no turn
        (Unix seconds). ``number``: the number of the last waiting task. ``tenant_cap``, ``video_cap``: limits.
        ``consumers``: the number of processes that read the queue. ``silent_ms``: after that time without a command, a
        process is not counted. ``paused``: when the queue was paused.
        ``cancelled:<task>``: who cancelled it and when, as ``NAME@SECONDS``. ``cursor``, ``rest``: how far the janitor
        has compared accounts with the stream, and looked at resting tenants. ``since``, ``last``: first and last sign
        of an uninterrupted line of janitors. ``run_id``, ``lost``: see `TaskQueue.detect_data_loss`.
        """
        return f"{{{self.stream}}}:state"

    @property
    def waiting(self) -> str:
        """Sorted set: the backlog, ordered by tenant and age."""
        return f"{{{self.stream}}}:waiting"

    @property
    def paused(self) -> str:
        """Set: one member while the queue is paused. Only autoscalers read it; processes read `state`."""
        return f"{{{self.stream}}}:paused"

    @property
    def tenants(self) -> str:
        """Sorted set: tenants with waiting tasks, and some that had one, by phase and time of the next turn."""
        return f"{{{self.stream}}}:tenants"

    @property
    def janitor(self) -> str:
        """String with an expiry: the process that is the janitor."""
        return f"{{{self.stream}}}:janitor"

    @property
    def dispatch(self) -> tuple[str, str, str, str]:
        """The first keys of every script that moves tasks."""
        return self.stream, self.state, self.waiting, self.tenants

    def dedup_marker(self, dedup_key: str) -> str:
        """String: the id of the task that is unique under ``dedup_key``; empty if it is claimed (`TaskQueue.claim`)."""
        return f"{{{self.stream}}}:once:{dedup_key}"

    def bulk_job(self, kind: str) -> str:
        """Hash: the last bulk job of a kind (`BulkJobs`). The janitor carries it out."""
        return f"{{{self.stream}}}:job:{kind}"

    def bulk_items(self, kind: str) -> str:
        """Sorted set: the remaining items of that job, if it was given single items."""
        return f"{{{self.stream}}}:job_items:{kind}"


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A task with its history, as read from Redis."""

    entry_id: str
    task: Task
    attempts: int = 0
    crashed_workers: str = ""
    first_seen: float = 0.0
    error: str = ""
    replays: int = 0
    replayed_at: float = 0.0
    unavailable_since: float = 0.0
    once: str = ""
    tenant: str = ""
    failed_at: float = 0.0

    @classmethod
    def read(cls, entry_id: bytes, flat: Sequence[bytes], **more: Any) -> Self:
        """Read ``[name, value, …]`` of an entry, also of another service's. A missing ``task_id`` follows from the id.

        ``more``: what a subclass has besides.
        """
        text = entry_id.decode()
        fields = as_text(flat)
        task = Task(
            task_id=fields.get("task_id") or text,
            fields={name: value for name, value in fields.items() if name not in _OURS},
            traceparent=fields.get("traceparent", ""),
        )
        return cls(
            entry_id=text,
            task=task,
            attempts=int(_number(fields, "attempts")),
            crashed_workers=fields.get("crashed_workers", "").strip(),
            first_seen=_number(fields, "first_seen") or _written_at(text),
            error=fields.get("error", ""),
            replays=int(_number(fields, "replays")),
            replayed_at=_number(fields, "replayed_at"),
            unavailable_since=_number(fields, "unavailable_since"),
            once=fields.get("once", ""),
            tenant=fields.get("tenant", ""),
            failed_at=_number(fields, "failed_at"),
            **more,
        )

    @property
    def deaths(self) -> int:
        """How many workers crashed while they had this task."""
        return len(self.crashed_workers.split())

    def to_fields(self, *, attempts: int, error: str, unavailable_since: float = 0.0) -> dict[str, str]:
        """All fields with the history moved on."""
        history = {
            "attempts": str(attempts),
            "error": error[:_MAX_ERROR],
            "first_seen": _seconds(self.first_seen),
            "crashed_workers": self.crashed_workers,
            "replays": str(self.replays or ""),
            "replayed_at": _seconds(self.replayed_at),
            "unavailable_since": _seconds(unavailable_since),
            "once": self.once,
            "tenant": self.tenant,
        }
        return task_fields(self.task) | {name: value for name, value in history.items() if value}


def task_fields(task: Task) -> dict[str, str]:
    """The fields of a task without history, ``task_id`` first."""
    fields = {"task_id": task.task_id, **task.fields}
    if task.traceparent:
        fields["traceparent"] = task.traceparent
    return fields


def flatten(fields: Mapping[str, str]) -> list[Argument]:
    """``[name, value, …]`` for a command."""
    return [part for pair in fields.items() for part in pair]


def delayed_member(fields: Mapping[str, str]) -> str:
    """The member of the delayed set for these fields: equal fields make equal members."""
    ordered = sorted(fields.items(), key=lambda field: (field[0] != "task_id", field))
    return json.dumps([part for field in ordered for part in field], separators=(",", ":"))


def _number(fields: Mapping[str, str], name: str) -> float:
    """A number of ours; 0 when it is missing or is none (another producer may use the name for something else)."""
    if name not in fields:
        return 0.0
    try:
        value = float(fields[name])
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e12 else 0.0


def _seconds(time: float) -> str:
    return f"{time:.3f}" if time else ""


def _written_at(entry_id: str) -> float:
    milliseconds, _, _ = entry_id.partition("-")
    return int(milliseconds) / 1000


def _parse_delayed(member: str, _key: str) -> QueueEntry:
    flat = json.loads(member)
    if not isinstance(flat, list):
        raise ValueError("it is not an array of fields")
    return QueueEntry.read(b"0-0", [str(part).encode() for part in flat])


def _parse_waiting(member: str, key: str) -> QueueEntry:
    tenant, _, rest = member.partition("\0")
    return replace(_parse_delayed(rest[WAITING_HEADER:], key), tenant=tenant)


_FIELDS = ("task_id", "<the contract's fields>", "traceparent", *HISTORY)
WAITING = CustomRecord(
    "waiting_task", QueueEntry, "{<queue>}:waiting", "scripts of the queue", fields=_FIELDS, parse=_parse_waiting
)
"""A task of the backlog. Its member begins with tenant and time."""
DELAYED = CustomRecord(
    "delayed_task", QueueEntry, "{<queue>}:delayed", "workers, removals", fields=_FIELDS, parse=_parse_delayed
)
"""A task that is due later. The promoter makes a dead letter of a member that cannot be read."""


def subject_of(queue: str, task: Task, remote_ids: ResourceSlot[RemoteIds]) -> str:
    """Return the id of a task's media item; empty if it names none.

    Raises `Unavailable` for a task of remote media, if the key of their ids was not read yet.
    """
    try:
        if queue == CACHE_QUEUE:
            url = parse_remote_url(task.fields.get("remote_url", ""))
            return str(remote_ids.get().of(str(url)))
        return str(parse_any_id(task.fields.get("media_id", "")))
    except (InvalidId, InvalidUrl):
        return ""
