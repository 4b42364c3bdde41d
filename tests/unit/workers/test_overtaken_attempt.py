"""An attempt whose lease is lost: stopped before it writes what shows; from then on it comes to its end."""

from __future__ import annotations

import time
from typing import cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from avion_media.backends.queue import Lease
from avion_media.common.errors import LeaseLost, Reason
from avion_media.common.tasks import EnsureLease, Task, TaskHandler
from supervisors import Supervisor, open_tree
from tests.unit.workers.fakes import CLAIM_AFTER_S, FakeQueue, consumer_of


class FakeLease:
    """Another has it after a while."""

    entry_id = "1-0"
    task = Task("t", {"media_id": "m"})
    attempt = 1
    deliveries = 1
    deaths = 0
    cancelled_by = ""
    ended = False
    first_seen = age_since = time.time()
    last_error = ""

    def __init__(self) -> None:
        self.completed = False
        self.released = False

    async def renew(self) -> None:
        if trio.current_time() > CLAIM_AFTER_S:
            raise LeaseLost

    async def complete(self) -> None:
        await self.renew()
        self.completed = True

    async def release(self) -> None:
        self.released = True

    def supersede(self) -> None:
        """The attempt has ended."""


class OneTask(FakeQueue):
    """One task, once."""

    must_look = True

    def __init__(self) -> None:
        self.lease: FakeLease | None = FakeLease()
        self.last_heartbeat = 0.0

    async def take(self, _consumer: str, block_s: float, *, look_first: bool) -> Lease | None:
        given, self.lease = self.lease, None
        if given is None:
            await trio.sleep(block_s)
        return cast("Lease | None", given)

    async def send_heartbeat(self, _consumer: str) -> None:
        self.last_heartbeat = trio.current_time()


class Attempt(TaskHandler):
    """Works for longer than its lease lasts."""

    def __init__(self, *, confirms: bool) -> None:
        self._confirms = confirms
        self.ended = False
        self.gave_up = False

    async def run(self, _task: Task, ensure_lease: EnsureLease) -> None:
        if self._confirms:
            await ensure_lease()
        await trio.sleep(3 * CLAIM_AFTER_S)
        self.ended = True

    async def record_failure(self, _task: Task, _reason: Reason, *, is_file_suspect: bool = False) -> None:
        self.gave_up = True


@pytest.mark.parametrize("confirms", [True, False])
async def test_an_attempt_that_may_have_written_comes_to_its_end(confirms: bool, autojump_clock: MockClock) -> None:
    handler, queue = Attempt(confirms=confirms), OneTask()
    lease = queue.lease
    assert lease is not None
    consumer = consumer_of(queue, handler)
    async with open_tree(Supervisor("root", [*consumer.children[:3]])):
        await trio.sleep(2 * CLAIM_AFTER_S)
        assert consumer.running == (1 if confirms else 0)
        # Its process has lost the lease, but it is alive: nobody must go on counting its crash.
        assert trio.current_time() - queue.last_heartbeat <= CLAIM_AFTER_S / 4
        await consumer.drain(10 * CLAIM_AFTER_S)
    assert handler.ended is confirms
    assert not lease.completed
    assert not handler.gave_up


class Parallel(Attempt):
    """Waits in a nursery of its own, whose cancel is a group."""

    async def run(self, _task: Task, ensure_lease: EnsureLease) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()


async def test_a_cancelled_attempt_gives_its_task_back_at_once() -> None:
    queue = OneTask()
    lease = queue.lease
    assert lease is not None
    consumer = consumer_of(queue, Parallel(confirms=False))
    with trio.CancelScope() as outside:
        async with open_tree(Supervisor("root", [*consumer.children[1:3]]), cancel_grace_s=0):
            await trio.testing.wait_all_tasks_blocked()
            assert consumer.running == 1
            outside.cancel()
    assert lease.released
