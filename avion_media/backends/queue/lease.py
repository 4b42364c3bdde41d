"""A lease: one task that this process works on, until the task ends or another process takes it over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import trio

from avion_media.backends.queue import scripts
from avion_media.backends.queue.entries import QueueEntry, QueueKeys, delayed_member, flatten, subject_of
from avion_media.backends.redis import Argument, Redis, RedisFull, Reply, Script
from avion_media.common.errors import LeaseLost, Unavailable
from avion_media.common.ids import RemoteIds
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import CONSUMER_GROUP
from avion_media.common.telemetry import instruments
from trio_telemetry import NO_TELEMETRY, NONE, OTHER, Telemetry

_CANCELLED = 2  # the answer of a renewal
_Fence: TypeAlias = tuple[str, str, str, int]
_ERRORS: dict[type[BaseException], str] = {  # the first that fits counts
    RedisFull: "full",
    Unavailable: "unavailable",
    LeaseLost: "lease_lost",
    trio.Cancelled: "cancelled",
}


def record_operation(telemetry: Telemetry, queue: str, operation: str, began_at: float, error_type: str = NONE) -> None:
    """Record an operation on a queue, ``send``, ``receive`` or ``settle``, that began at this monotonic time."""
    telemetry.record(
        instruments.QUEUE_OPERATIONS,
        time.monotonic() - began_at,
        messaging__operation__name=operation,
        messaging__operation__type=operation,
        messaging__consumer__group__name=NONE if operation == "send" else CONSUMER_GROUP,
        messaging__destination__name=queue,
        error__type=error_type,
    )


@contextmanager
def measured(telemetry: Telemetry, queue: str, operation: str) -> Iterator[None]:
    """Record the block as an operation on a queue, also if it fails."""
    began_at, error_type = time.monotonic(), NONE
    try:
        yield
    except BaseException as error:
        error_type = next((word for kind, word in _ERRORS.items() if isinstance(error, kind)), OTHER)
        raise
    finally:
        record_operation(telemetry, queue, operation, began_at, error_type)


class Lease:
    """The right of this consumer to one task. `TaskQueue.take` returns it.

    Each method is one atomic step on the server, and first compares consumer and delivery. If the entry belongs to
    another lease, the method raises `LeaseLost` and changes nothing. It raises `Unavailable` if no reply came. After
    that, or after a cancel, the step may have been done. It can be repeated, and raises `LeaseLost` if it was done.
    """

    def __init__(
        self,
        redis: Redis,
        keys: QueueKeys,
        entry: QueueEntry,
        *,
        consumer: str,
        deliveries: int,
        dedup_ttl_ms: int,
        cancelled_by: str = "",
        remote_ids: ResourceSlot[RemoteIds],
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._redis = redis
        self._remote_ids = remote_ids
        self._telemetry = telemetry
        self._keys = keys
        self._entry = entry
        self._fence: _Fence = (CONSUMER_GROUP, entry.entry_id, consumer, deliveries)
        self._dedup_ttl_ms = dedup_ttl_ms
        self._ended = False
        self.cancelled_by = cancelled_by
        """The operator who cancelled the task, and when, as ``NAME@SECONDS``; empty if none did."""
        self.entry_id = entry.entry_id
        """The stream entry's id."""
        self.task = entry.task
        """The work to do."""
        self.failures = entry.attempts
        """How many attempts failed, not counting those whose worker crashed."""
        self.deaths = entry.deaths
        """How many workers crashed while they had this task."""
        self.crashed_workers = entry.crashed_workers
        """The last of these, as ``NAME@SECONDS …``: when each was noticed (Unix seconds)."""
        self.attempt = self.failures + self.deaths + 1
        """The number of this attempt, from 1. Failed attempts count, and those whose worker crashed."""
        self.first_seen = entry.first_seen
        """When the task was first queued (Unix seconds)."""
        self.age_since = max(entry.first_seen, entry.replayed_at)
        """When the task was queued, or last put back by an operator (Unix seconds)."""
        self.unavailable_since = entry.unavailable_since
        """When its objects became unavailable, or its format was first unknown (Unix seconds); 0 if neither is so.

        An attempt that ends in an outage does not change it.
        """

    @property
    def ended(self) -> bool:
        """Whether this lease is over, for any reason."""
        return self._ended

    def supersede(self) -> None:
        """Mark this lease as over: its work has ended, or this process has a newer lease on the same entry."""
        self._ended = True

    async def begin(self) -> None:
        """Begin an attempt that waited until it ran alone. From here on a crash of this worker counts."""
        fence = self._fence
        self._fence = (*fence[:3], 1)  # at once: another renewal may be sent before the reply to this one comes
        await self._renew(fence)

    async def renew(self) -> None:
        """Extend the lease, and read `cancelled_by` again."""
        await self._renew(self._fence)

    async def _renew(self, fence: _Fence) -> None:
        args = (self.task.task_id, self._fence[3])
        if await self._decide(scripts.RENEW, (self._keys.stream, self._keys.state), args, fence) == _CANCELLED:
            by = await self._redis.execute("HGET", self._keys.state, f"cancelled:{self.task.task_id}")
            self.cancelled_by = (by or b"somebody").decode(errors="replace")

    async def complete(self, then: Argument = "") -> Reply:
        """Remove the task, whose effect is durable. ``then``: see `TaskQueue.exchange`."""
        keys = (*self._keys.dispatch, *self._dedup_marker())
        return await self._settle(scripts.COMPLETE, keys, (*self._forget(), then))

    async def retry(self, delay_s: float, error: str, *, count: bool = True, unavailable_since: float = 0.0) -> None:
        """Schedule the task again after ``delay_s`` seconds. With ``count=False`` this attempt is not used up."""
        fields = self._entry.to_fields(attempts=self.failures + count, error=error, unavailable_since=unavailable_since)
        await self._settle(
            scripts.RETRY, (*self._keys.dispatch, self._keys.delayed), (max(0.0, delay_s), delayed_member(fields))
        )

    async def defer(self, pause_s: float, error: str) -> None:
        """Put the task back to its tenant, which has no turn for ``pause_s`` seconds. This attempt is not used up."""
        fields = self._entry.to_fields(attempts=self.failures, error=error, unavailable_since=self.unavailable_since)
        await self._settle(scripts.DEFER, self._keys.dispatch, (max(0.0, pause_s), *flatten(fields)))

    async def release(self) -> None:
        """Queue the task again at once; neither an attempt nor a delivery is used up."""
        await self._settle(scripts.RELEASE, self._keys.dispatch, ())

    async def dead_letter(self, error: str) -> None:
        """Make a dead letter of the task, with all its fields, ``error`` and its history."""
        fields = self._entry.to_fields(attempts=self.attempt, error=error)
        subject = subject_of(self._keys.stream, self._entry.task, self._remote_ids)
        await self._settle(
            scripts.DEAD_LETTER,
            (*self._keys.dispatch, *self._dedup_marker()),
            (*self._forget(), subject, *flatten(fields)),
        )

    def _dedup_marker(self) -> tuple[str, ...]:
        return (self._keys.dedup_marker(self._entry.once),) if self._entry.once else ()

    def _forget(self) -> tuple[str, int]:
        return self.task.task_id, self._dedup_ttl_ms

    async def _settle(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Reply:
        """End the lease by this script, and return its answer."""
        with measured(self._telemetry, self._keys.stream, "settle"):
            answer = await self._decide(script, keys, args)
        self._ended = True
        return answer

    async def _decide(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], fence: _Fence | None = None
    ) -> Reply:
        answer = 0 if self._ended else await self._redis.run(script, keys, (*(fence or self._fence), *args))
        if answer == 0:
            self._ended = True
            raise LeaseLost(f"lease lost: another worker now owns task {self.task.task_id}")
        return answer
