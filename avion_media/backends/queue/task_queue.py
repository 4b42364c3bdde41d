"""A queue of tasks on a Redis stream: at least once, fenced, nothing lost.

The life of a task: `enqueue` adds it to its tenant's backlog. It moves to the stream when its tenant has a turn. `take`
gives it to one consumer as a `Lease`. The consumer renews the lease while it works, and ends it in one of five ways:
complete, retry (through the delayed set), defer (back to the backlog), release, dead letter. If the worker dies,
`reclaim` queues the task again. `delay` and `promote` are for tasks that are due later.

Scripts alone decide which tenant has a turn (``lua/_dispatch.lua``); docs/decisions/0005 has the reasons.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import trio

from avion_media.backends.queue import attempts, scripts
from avion_media.backends.queue.attempts import Attempt
from avion_media.backends.queue.consumers import ensure_group, read_consumers, remove_idle_consumers
from avion_media.backends.queue.dead_letters import DeadLetters
from avion_media.backends.queue.entries import (
    CONFIRM_S,
    UNCONFIRMED,
    QueueEntry,
    QueueKeys,
    delayed_member,
    flatten,
    subject_of,
    task_fields,
)
from avion_media.backends.queue.lease import Lease, measured, record_operation
from avion_media.backends.redis import Argument, Lock, Redis, RedisRefused, Reply, Script
from avion_media.common.errors import Dependency, LeaseLost, Reason, Unavailable
from avion_media.common.ids import RemoteIds
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import CONSUMER_GROUP, QUEUES, Queue, Task
from avion_media.common.telemetry import instruments
from avion_media.common.telemetry.traces import trace_of_subject
from trio_telemetry import NO_TELEMETRY, Telemetry

VIDEO_SHARE = 0.5  # of all slots: the others are left to images
MAX_DEATHS = 3  # of workers that had one task: then it is poison
_NEVER = 10**9
_DEDUP_MS = 30 * 86_400_000  # how long a task that never ends is unique: far longer than `TASKS__MAX_AGE`
# How long a claim lasts: far longer than the process that made it can take, even if it stands still meanwhile, or than
# a call that saw the upload before its removal. Shorter than _DEDUP_MS, so a claim never looks like a recent task.
_CLAIM_MS = 86_400_000
_SCHEDULED = 500  # tasks that are delayed, or looked up, in one step
_LAST_ID = "18446744073709551615-18446744073709551614"  # the last possible one means ">" to the server: new entries
_DOUBT_S = 10.0  # for so long after an outage a script can have run whose reply was lost
_BATCH = 100  # tasks that a step of the janitor moves: a few ms of the server's time


LATE_S = 120.0
"""The oldest task has waited so long that people notice."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """A queue at one moment. ``depth`` = ``lag`` (not yet taken) + ``pending`` (leased by a worker).

    ``oldest_age_s`` is the age of the oldest task that is neither delayed nor ended, 0 if there is none. With more than
    a hundred tenants only those with the next turns are considered.
    """

    depth: int = 0
    lag: int = 0
    pending: int = 0
    oldest_age_s: float = 0.0
    delayed: int = 0
    next_due: float | None = None  # Unix seconds
    dead_letters: int = 0
    consumers: int = 0  # processes that sent a command within TASKS__CLAIM_AFTER
    tenants: int = 0  # that have waiting tasks
    paused_since: float = 0.0  # Unix seconds; 0 while it is not paused
    paused_by: str = ""
    paused_note: str = ""
    paused_until: float = 0.0  # Unix seconds; 0: until it is resumed
    waiting: int = 0  # of ``lag``: those in the backlog
    slots: int = 0  # of all workers together
    tenant_cap: int = 0  # maximum tasks of one tenant at once; 0: unlimited
    oldest_tenant: str = ""  # the tenant whose task in the backlog is the oldest one there
    of_oldest_tenant: int = 0  # its tasks in the backlog
    running_of_oldest_tenant: int = 0  # its tasks that workers have, or will have next; 0 if its tasks have no bound
    videos: int = 0  # videos among the tasks that workers have, or will have next
    video_cap: int = 0  # maximum of these; 0: unlimited


@dataclass(frozen=True, slots=True)
class DataLoss:
    """Tasks of a queue may have been lost, at or before ``at`` (Unix seconds, by the server's clock)."""

    at: float
    noted: bytes


class TaskQueue:
    """One queue. Every method raises `Unavailable` while Redis is unavailable. `Redis.execute` says what a cancel
    leaves.

    The fence needs unique consumer names: no two processes may ever use the same one, not even one after another.
    An entry without the ``required`` fields is malformed; by default they are those of the contract's queues.
    ``remote_ids``: only tasks of remote media need it.
    """

    def __init__(
        self,
        redis: Redis,
        name: str,
        *,
        required: tuple[str, ...] | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
        remote_ids: ResourceSlot[RemoteIds] | None = None,
    ) -> None:
        self.name = name
        self._remote_ids = remote_ids or ResourceSlot(Dependency.STORE)
        self.dead_letters = DeadLetters(redis, QueueKeys(name))
        self._redis = redis
        self._keys = QueueKeys(name)
        row = QUEUES.get(name) or Queue(name, name, "", required=())
        self._required = row.required if required is None else required
        self._dedup_ttl_ms = round(row.dedup_ttl_s * 1000)
        self.max_deaths = MAX_DEATHS if row.gives_up else _NEVER
        self._telemetry = telemetry
        self._look_at = -math.inf  # when `take` looks for unconfirmed entries again
        self._reply_lost_at = -math.inf
        self._leases: WeakValueDictionary[str, Lease] = WeakValueDictionary()

    async def ensure_group(self) -> bool:
        """Create stream and consumer group if they are missing. Return whether they were."""
        return await ensure_group(self._redis, self.name, CONSUMER_GROUP)

    async def enqueue(
        self,
        fields: dict[str, str],
        *,
        task_id: str | None = None,
        traceparent: str = "",
        dedup_key: str | None = None,
        lost_if_older_s: float = math.inf,
        tenant: str = "",
        follow_up: bool = False,
    ) -> str:
        """Add a task and return its id. ``tenant`` is used if the fields name no owner. The default ``traceparent`` is
        that of the present span, or if there is none, that of the media item's trace. ``follow_up``: a task in progress
        cannot end without it, so a full Redis takes it too. Raises `RedisFull` for others.

        With ``dedup_key``, a second call adds nothing and returns the id of the first task, until a while after that
        task has ended. So a call can be repeated after `Unavailable` or a cancel, when its result is unknown. A first
        task that was added more than ``lost_if_older_s`` ago counts as lost, and a new one is added. If the key is
        claimed (see `claim`), nothing is added, and the id is empty.
        """
        task_id = task_id or str(uuid.uuid4())
        with self._telemetry.child_span(
            f"send {self.name}",
            kind="producer",
            messaging__system="redis",
            messaging__operation__name="send",
            messaging__operation__type="send",
            messaging__destination__name=self.name,
            messaging__message__id=task_id,
        ):
            entry = task_fields(_traced(Task(task_id, fields, traceparent or self._telemetry.traceparent())))
            keys = [*self._keys.dispatch]
            if tenant:
                entry["tenant"] = tenant
            if dedup_key is not None:
                entry["once"] = dedup_key
                keys.append(self._keys.dedup_marker(dedup_key))
            oldest_ms = round(min(lost_if_older_s * 1000, _DEDUP_MS))
            script = scripts.FOLLOW_UP if follow_up else scripts.ENQUEUE
            with measured(self._telemetry, self.name, "send"):
                reply: bytes = await self._redis.run(script, keys, (task_id, _DEDUP_MS, oldest_ms, *flatten(entry)))
        if reply.decode() == task_id:
            self._telemetry.count(instruments.TASKS_SENT, messaging__destination__name=self.name)
        return reply.decode()

    async def drop_oldest(self, tenant: str, keep: int) -> int:
        """Drop the oldest tasks of a tenant's backlog beyond ``keep``. Return how many, which can be fewer."""
        bounds = (f"[{tenant}\0", f"({tenant}\1")  # as in `first_waiting` of lua/_dispatch.lua
        more = await self._redis.execute("ZLEXCOUNT", self._keys.waiting, *bounds) - keep
        if more <= 0:
            return 0
        limit = ("BYLEX", "LIMIT", 0, min(more, _SCHEDULED))
        members = await self._redis.execute("ZRANGE", self._keys.waiting, *bounds, *limit)
        dropped: int = await self._redis.execute("ZREM", self._keys.waiting, *members)
        return dropped

    async def claim(self, dedup_key: str) -> bool:
        """Let no task be added under this dedup key for a day. Return False if there is such a task, or was just now.

        It can be repeated, by another process too, and then lasts a day from then.
        """
        return bool(await self._redis.run(scripts.CLAIM, (self._keys.dedup_marker(dedup_key),), (_CLAIM_MS,)))

    async def queued_at(self, dedup_keys: Collection[str]) -> dict[str, float]:
        """Return when the tasks with these dedup keys were queued (Unix seconds). Keys without a task are left out.

        A task that has ended seems to have been queued long ago.
        """
        times: dict[str, float] = {}
        names = list(dedup_keys)
        for first in range(0, len(names), _SCHEDULED):
            chunk = names[first : first + _SCHEDULED]
            found = await self._redis.run(
                scripts.TASK_AGES, [self._keys.dedup_marker(each) for each in chunk], (_DEDUP_MS,)
            )
            times.update({name: float(at) for name, at in zip(chunk, found, strict=True) if at})
        return times

    async def take(self, consumer: str, block_s: float, *, look_first: bool = True) -> Lease | None:
        """Return a lease of the next task, or None if none came within ``block_s``.

        ``look_first``: ask for a task that is there before waiting for one; a caller that was waiting just now saves
        this. Once in ``block_s``, also look for an entry that a worker has taken a second ago and has not confirmed,
        because it stands still. An open read goes on at the server while its process stands still, so ``block_s`` also
        bounds how long such a process is given entries.

        Malformed entries become dead letters. A cancel leaves no task without a worker: a task that was already taken
        is released, or returned (the caller's next wait is then cancelled).
        """
        began_at = time.monotonic()
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            if trio.current_time() - self._reply_lost_at < _DOUBT_S:
                block_s = min(block_s, CONFIRM_S)
                await self.reclaim(consumer, CONFIRM_S, own=True)
            late, found = block_s <= 0 or self.must_look, None
            if late or look_first:
                found = await self._begin(scripts.TAKE, consumer, int(late))
            if late:
                self._look_at = trio.current_time() + block_s
            if found is None and block_s > 0:
                entry_id = await self._wait_for_entry(block_s)
                found = entry_id and await self._begin(scripts.ADMIT, consumer, entry_id)
            if found is None:
                return None
            lease = await self._received(found, consumer, began_at)
            if lease is not None:
                return lease

    @property
    def must_look(self) -> bool:
        """Whether the next `take` looks for entries that a worker has not confirmed."""
        return trio.current_time() >= self._look_at

    async def exchange(self, lease: Lease, consumer: str) -> Lease | None:
        """Complete a lease and take the next task, in one step. Return None if there is none that may begin.

        Errors as of `Lease.complete`. A cancel waits for the reply.
        """
        began_at = time.monotonic()
        with trio.CancelScope(shield=True):  # as in `_begin`
            with self._replies():
                found = await lease.complete(then=self.max_deaths - 1)
            with suppress(Unavailable):  # a malformed task that is left is reclaimed
                return await self._received(() if found == 1 else found, consumer, began_at)
        return None

    async def reclaim(
        self, consumer: str, idle_s: float, *, silent_s: float | None = None, batch: int = _BATCH, own: bool = False
    ) -> int:
        """Queue up to ``batch`` tasks again whose lease was not renewed for ``idle_s``. Return how many.

        ``own``: only tasks that Redis gave to ``consumer``, and that this process does not know of.

        A worker counts as dead if it has sent neither a renewal nor a heartbeat for ``silent_s``, by default half of
        ``idle_s``: workers send them twice as often. A task that `max_deaths` workers crashed with is poison, and
        `Consumer` makes a dead letter of it. Tasks of ``consumer``, this process, are left alone.
        """
        alive = [entry_id for entry_id, lease in self._leases.items() if not lease.ended]
        silent_ms = round((idle_s / 2 if silent_s is None else silent_s) * 1000)
        args: list[Argument] = [consumer, round(idle_s * 1000), _gap_ms(idle_s), silent_ms, batch, int(own), *alive]
        found: int = await self._redis.run(scripts.RECLAIM, self._keys.dispatch, args)
        return found

    def next_tick_s(self, period_s: float) -> float:
        """See `Redis.next_tick_s`."""
        return self._redis.next_tick_s(period_s)

    async def send_heartbeat(self, consumer: str) -> None:
        """Send the server a sign that this worker is alive, as a renewal and the start of an attempt are."""
        # A read of the consumer's own entries behind the last id: every server version counts it, and it returns
        # nothing.
        read = ("XREADGROUP", "GROUP", CONSUMER_GROUP, consumer, "COUNT", 1, "STREAMS", self.name, _LAST_ID)
        try:
            await self._redis.execute(*read)
        except RedisRefused as refused:
            if refused.code != "NOGROUP":  # the next `take` creates it
                raise

    async def adopt(self, batch: int = _BATCH) -> int:
        """Move up to ``batch`` entries that other services added beyond the runway to the backlog. Return how many."""
        moved: int = await self._redis.run(scripts.ADOPT, self._keys.dispatch, (batch,))
        return moved

    async def settle(
        self,
        *,
        tenant_cap: int,
        slots: int,
        idle_s: float,
        consumers: int | None = None,
    ) -> int:
        """Update the accounts of fair dispatch, dispatch tasks, and record that the queue has a janitor.

        Return the number of consumers of the queue.

        ``consumers``: their number, if the caller has read it lately, because reading it costs most of this in a large
        fleet. ``tenant_cap``: maximum tasks of one tenant at once; 0: unlimited. ``slots``: of each consumer; videos
        take at most `VIDEO_SHARE` of the slots of all consumers that sent a command within ``idle_s``. If the queue had
        no janitor for half of ``idle_s`` (Redis or all workers were unavailable), `reclaim` takes nothing until
        ``idle_s`` have passed, because a worker that could not renew its leases meanwhile is not dead. This does not
        apply to a queue that never had a janitor.
        """
        if consumers is None:
            found = await read_consumers(self._redis, self.name, CONSUMER_GROUP)
            workers = [row for row in found if row[b"name"] != UNCONFIRMED.encode()]
            consumers = sum(row[b"idle"] < idle_s * 1000 for row in workers)
        args = (tenant_cap, slots, consumers, VIDEO_SHARE, _gap_ms(idle_s))
        await self._redis.run(scripts.SETTLE, self._keys.dispatch, args)
        return consumers

    def janitor_lock(self, name: str, ttl_s: float) -> Lock:
        """Return the lock that the queue's janitor holds. Nothing depends on it that there is one janitor only."""
        return Lock(self._redis, self._keys.janitor, ttl_s=ttl_s, token=name)

    async def count_consumers(self) -> int:
        """Return the number of consumers that the janitor has recorded; 0 if none has."""
        found: bytes | None = await self._redis.execute("HGET", self._keys.state, "consumers")
        return int(found or 0)

    async def pause(self, by: str = "", note: str = "", for_s: float = 0.0) -> None:
        """Start no more tasks until `resume`, or for ``for_s`` (0: no limit). Tasks that workers have continue.

        The janitor ends a pause with a limit.
        """
        await self._redis.run(scripts.PAUSE, self._keys.dispatch, (by, note, f"{for_s:.3f}"))

    async def resume(self) -> bool:
        """Start tasks again. Return whether the queue was paused."""
        return bool(await self._redis.run(scripts.RESUME, self._keys.dispatch, ()))

    async def cancel(self, task_id: str, by: str) -> None:
        """Make a task end as a dead letter: at its next turn, or if a worker has it, at its next renewal.

        It is forgotten if there is no such task within 30 days.
        """
        await self._redis.run(scripts.CANCEL, (self._keys.state,), (task_id, by))

    async def delay(self, tasks: Sequence[tuple[dict[str, str], str, float]]) -> int:
        """Queue tasks for later, each given by fields, id and due time (Unix seconds). Return how many are new.

        Calls with the same fields and id, from any replica, queue one task at the earliest due time. For this reason
        its ``traceparent`` is that of the media item, never the caller's. After an error or a cancel some may be
        queued; repeat the call.
        """
        added = 0
        for first in range(0, len(tasks), _SCHEDULED):
            members: list[Argument] = []
            for fields, member_id, due_at in tasks[first : first + _SCHEDULED]:
                members += (f"{due_at:.3f}", delayed_member(task_fields(_traced(Task(member_id, fields)))))
            added += await self._redis.execute("ZADD", self._keys.delayed, "LT", *members, when_full=True)
        if added:
            self._telemetry.count(instruments.TASKS_SENT, added, messaging__destination__name=self.name)
        return added

    async def promote(self, batch: int = _BATCH) -> int:
        """Queue up to ``batch`` tasks that are due by the server's clock. Return how many.

        Each is moved exactly once, even if several replicas do this. Unreadable members become dead letters.
        """
        keys = (*self._keys.dispatch, self._keys.delayed)
        moved: int = await self._redis.run(scripts.PROMOTE, keys, (batch,))
        return moved

    async def detect_data_loss(self, *, remember: bool = True) -> DataLoss | None:
        """Return the last loss of data that `clear_data_loss` has not cleared; None if there is none.

        Tasks may have been lost if the consumer group had to be created again, or if another server process serves the
        queue than at the last call: a restart or a failover can lose the last acknowledged writes.

        Without ``remember`` nothing is written, and the next call returns the same.
        """
        noted = await self._redis.run(scripts.DETECT_DATA_LOSS, (self._keys.state,), (int(remember),))
        return None if noted is None else DataLoss(float(noted), noted)

    async def clear_data_loss(self, loss: DataLoss) -> None:
        """Clear a loss, because a sweep looks for the lost tasks. A later loss stays."""
        await self._redis.run(scripts.CLEAR_DATA_LOSS, (self._keys.state,), (loss.noted,))

    async def remove_idle_consumers(self, idle_s: float) -> int:
        """Remove consumers that have no task and did not read for ``idle_s``, some at a time. Return how many."""
        return await remove_idle_consumers(self._redis, self.name, CONSUMER_GROUP, idle_s)

    async def record_attempt(self, task: Task, attempt: Attempt) -> None:
        """Record an attempt at a task of this queue, if the task has a media item."""
        subject = subject_of(self.name, task, self._remote_ids)
        if subject:
            about = replace(attempt, subject=subject, queue=self.name, task_id=task.task_id)
            await attempts.record(self._redis, about)

    async def stats(self) -> QueueStats:
        """Return the present figures of the queue."""
        found: bytes = await self._redis.run(scripts.STATS, (*self._keys.dispatch, self._keys.delayed))
        return QueueStats(**json.loads(found))

    async def _wait_for_entry(self, block_s: float) -> Reply:
        block_ms = max(1, round(block_s * 1000))  # 0 would mean without an end
        read = ("XREADGROUP", "GROUP", CONSUMER_GROUP, UNCONFIRMED, "COUNT", 1, "BLOCK", block_ms, "STREAMS", self.name)
        try:
            reply = await self._redis.execute_blocking(*read, ">", block_s=block_ms / 1000, undo=self._give_back)
        except RedisRefused as refused:
            if refused.code != "NOGROUP":
                raise
            self._look_at = -math.inf  # the stream or its group was removed; only the script creates it again
            return None
        return _entry_id(reply)

    async def _give_back(self, reply: Reply) -> None:
        fence = (CONSUMER_GROUP, _entry_id(reply), UNCONFIRMED, 1)
        await self._redis.run(scripts.RELEASE, self._keys.dispatch, fence)

    @contextmanager
    def _replies(self) -> Iterator[None]:
        """Note that a reply was lost that may have had a task."""
        try:
            yield
        except Unavailable:
            self._reply_lost_at, self._look_at = trio.current_time(), -math.inf
            raise

    async def _begin(self, script: Script, consumer: str, arg: Argument) -> Reply:
        """Return an entry with which an attempt has begun; empty if it cannot begin yet or another worker has the
        entry; None if there is none."""
        # Shielded, because nobody would work on a task whose reply is lost here, until its lease has expired. Bounded
        # by the timeout of one call.
        with trio.CancelScope(shield=True), self._replies():
            return await self._redis.run(script, self._keys.dispatch, (consumer, self.max_deaths - 1, arg))

    async def _received(self, found: Reply, consumer: str, began_at: float) -> Lease | None:
        """Return the lease of an entry; None if it cannot begin yet, or is malformed."""
        if not found:
            return None
        (entry_id, flat), (deliveries, crashed_workers, cancelled_by) = found
        lease = Lease(
            self._redis,
            self._keys,
            replace(QueueEntry.read(entry_id, flat), crashed_workers=crashed_workers.decode(errors="replace")),
            consumer=consumer,
            deliveries=deliveries,
            dedup_ttl_ms=self._dedup_ttl_ms,
            cancelled_by=cancelled_by.decode(errors="replace"),
            remote_ids=self._remote_ids,
            telemetry=self._telemetry,
        )
        former = self._leases.get(lease.entry_id)
        if former is not None:
            former.supersede()
        self._leases[lease.entry_id] = lease
        if not lease.task.fields or not all(lease.task.fields.get(name) for name in self._required):
            await self._dead_letter_malformed(lease)
            return None
        record_operation(self._telemetry, self.name, "receive", began_at)
        return lease

    async def _dead_letter_malformed(self, lease: Lease) -> None:
        missing = [name for name in self._required if not lease.task.fields.get(name)]
        with suppress(LeaseLost):  # another worker has it now, and does the same
            await lease.dead_letter(f"{Reason.MALFORMED_TASK}: no {', '.join(missing) or 'fields'}")


def open_queues(
    redis: Redis, telemetry: Telemetry = NO_TELEMETRY, remote_ids: ResourceSlot[RemoteIds] | None = None
) -> dict[str, TaskQueue]:
    """Return all queues of this Redis, by name."""
    return {name: TaskQueue(redis, name, telemetry=telemetry, remote_ids=remote_ids) for name in QUEUES}


def _traced(task: Task) -> Task:
    """Return the task with a ``traceparent``, if need be that of its media item (docs/contract.md, section 4)."""
    return task if task.traceparent else replace(task, traceparent=trace_of_subject(task.subject).traceparent)


def _gap_ms(idle_s: float) -> int:
    return round(idle_s * 500)


def _entry_id(reply: Reply) -> Reply:
    """Return the id of a read's only entry, or None."""
    return next(iter(reply.values()))[0][0] if reply else None
