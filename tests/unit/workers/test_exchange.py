"""Who completes a task while the reader waits for a place takes the next one for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from avion_media.backends.queue import Lease
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.tasks import EnsureLease, Task, TaskHandler
from supervisors import Supervisor, open_tree
from tests.unit.workers.fakes import FakeQueue, consumer_of

TASK_S, STEP_S = 10.0, 1.0


@dataclass
class FakeLease:
    """One of the tasks of the queue."""

    entry_id: str
    ends: list[str] = field(default_factory=list)
    attempt = 1
    deaths = 0
    cancelled_by = ""
    ended = False
    first_seen = age_since = 0.0

    @property
    def task(self) -> Task:
        return Task(self.entry_id, {"media_id": self.entry_id})

    async def renew(self) -> None:
        await trio.lowlevel.checkpoint()

    async def complete(self) -> None:
        await trio.lowlevel.checkpoint()
        self.ends.append(f"{self.entry_id} completed")

    async def release(self) -> None:
        await trio.lowlevel.checkpoint()
        self.ends.append(f"{self.entry_id} released")

    def supersede(self) -> None:
        """The attempt has ended."""


class Waiting(FakeQueue):
    """Tasks that all wait. It notes what is asked of it."""

    def __init__(self, count: int) -> None:
        self.asked: list[str] = []
        self.fails = False
        self._waiting = [FakeLease(f"{number}-0", self.asked) for number in range(1, count + 1)]

    def _next(self) -> Lease | None:
        return cast("Lease", self._waiting.pop(0)) if self._waiting else None

    async def take(self, _consumer: str, block_s: float, *, look_first: bool) -> Lease | None:
        self.asked.append("look" if look_first else "wait")
        if not self._waiting:
            await trio.sleep(block_s)
        return self._next()

    async def exchange(self, lease: Lease, _consumer: str) -> Lease | None:
        with trio.CancelScope(shield=True):
            await trio.sleep(STEP_S)
        self.asked.append(f"{lease.entry_id} exchanged")
        if self.fails:
            raise Unavailable(Dependency.REDIS)
        return self._next()

    async def record_attempt(self, *_about: object) -> None:
        await trio.lowlevel.checkpoint()


class Sleeper(TaskHandler):
    """The second task takes a little longer than the others."""

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        await trio.sleep(TASK_S + STEP_S / 2 * (task.task_id == "2-0"))


async def worked(queue: Waiting, for_s: float, slots: int = 1) -> list[str]:
    """Return what was asked of the queue within this time."""
    async with open_tree(Supervisor("root", [*consumer_of(queue, Sleeper(), slots).children[:3]])):
        await trio.sleep(for_s)
        return [*queue.asked]


async def test_the_next_task_begins_when_the_last_one_has_ended(autojump_clock: MockClock) -> None:
    asked = await worked(Waiting(3), 3 * (TASK_S + STEP_S) + STEP_S)
    assert asked == ["wait", "1-0 exchanged", "2-0 exchanged", "3-0 exchanged", "wait"]


async def test_a_consumer_with_a_free_place_only_completes(autojump_clock: MockClock) -> None:
    asked = await worked(Waiting(1), TASK_S + 2 * STEP_S, slots=2)
    assert "1-0 completed" in asked
    assert {*asked} == {"wait", "1-0 completed"}


async def test_a_place_that_is_free_meanwhile_is_for_the_task_that_is_on_its_way(autojump_clock: MockClock) -> None:
    asked = await worked(Waiting(3), TASK_S + 2 * STEP_S, slots=2)
    assert asked == ["wait", "wait", "2-0 completed", "1-0 exchanged", *["wait"] * (len(asked) - 4)]


async def test_the_reader_looks_itself_when_it_is_time(autojump_clock: MockClock) -> None:
    queue = Waiting(2)
    queue.must_look = True
    assert await worked(queue, 1.5 * (TASK_S + STEP_S)) == ["wait", "1-0 completed", "look"]


async def test_an_exchange_that_failed_is_a_completion_the_next_time(autojump_clock: MockClock) -> None:
    queue = Waiting(2)
    queue.fails = True
    asked = await worked(queue, TASK_S + 2 * STEP_S + 0.5)
    assert asked[:4] == ["wait", "1-0 exchanged", "1-0 completed", "wait"]


@pytest.mark.parametrize("stop", ["drain", "stop", "cancel"])
async def test_a_task_that_comes_when_nobody_waits_for_it_is_released(stop: str, autojump_clock: MockClock) -> None:
    queue = Waiting(2)
    draining = trio.Event()
    consumer = consumer_of(queue, Sleeper(), accepting=lambda: not draining.is_set())
    root = Supervisor("root", [*consumer.children[:3]], grace_s=20.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(TASK_S + STEP_S / 2)  # the exchange has begun
        match stop:
            case "drain":
                draining.set()
                await consumer.drain(5.0)
                root.stop()
            case "stop":
                root.stop()
            case "cancel":
                nursery.cancel_scope.cancel()
    assert queue.asked == ["wait", "1-0 exchanged", "2-0 released"]


@pytest.mark.parametrize("again", range(20))
async def test_an_attempt_that_never_began_gives_its_task_back(again: int, autojump_clock: MockClock) -> None:
    queue = Waiting(1)
    root = Supervisor("root", [*consumer_of(queue, Sleeper()).children[:3]])

    async def stop() -> None:
        root.stop()

    async def take(_consumer: str, block_s: float, *, look_first: bool) -> Lease | None:
        trio.lowlevel.spawn_system_task(stop)  # runs in the same turn as the attempt, before it or after it
        return queue._next()

    queue.take = take  # type: ignore[method-assign]
    started = trio.current_time()
    await root.run()
    assert queue.asked == ["1-0 released"]
    assert trio.current_time() - started <= 5.0
