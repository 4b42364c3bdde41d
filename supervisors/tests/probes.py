"""Children that do what a test tells them, and a log of what they lived through."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from supervisors import Backoff, Child, Event, Intensity, Supervisor, Worker

NO_BACKOFF = Backoff(first_s=0.0, max_s=0.0)
S = TypeVar("S", bound=Supervisor)
PLENTY = Intensity(max_restarts=1_000, within_s=1.0)
SELDOM = Intensity(max_restarts=3, within_s=1_000.0)  # for backoffs of many seconds


class Boom(Exception):
    """What a child fails with."""


class Probe:
    """One child under a test's control. ``+name``, ``-name`` in the log mark the life of each incarnation."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.lives = 0
        self.up = False
        self.failing_starts = 0  # so many of the coming starts fail
        self.start_s = 0.0  # from the start to ready
        self.stop_s = 0.0  # from the request to stop to the return
        self.deaf = False  # does not react to the request to stop
        self.hangs_in_start = False
        self.clean_up_s = 0.0  # after a cancellation
        self.last_words: Exception | None = None  # raised when stopped or cancelled
        self._order = trio.Event()
        self._error: BaseException | None = None

    async def run(self, child: Child[None]) -> None:
        assert not self.up, f"two incarnations of {self.name} at once"
        self.up = True
        self.lives += 1
        self._order = trio.Event()
        self.log.append(f"+{self.name}")
        try:
            await self._live(child)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):  # bounded by clean_up_s
                await trio.sleep(self.clean_up_s)
            if self.last_words is not None:
                raise self.last_words from None
            raise
        finally:
            self.up = False
            self.log.append(f"-{self.name}")

    async def _live(self, child: Child[None]) -> None:
        if self.failing_starts:
            self.failing_starts -= 1
            raise Boom(f"{self.name} does not start")
        if self.hangs_in_start:
            await trio.sleep_forever()
        if self.start_s:
            await trio.sleep(self.start_s)
        child.started()
        with child.until_stopping():
            await self._order.wait()
        if child.stopping.is_set():
            await trio.sleep(math.inf if self.deaf else self.stop_s)
            if self.last_words is not None:
                raise self.last_words
        elif self._error is not None:
            raise self._error

    def fail(self, error: BaseException | None = None) -> None:
        self._error = Boom(self.name) if error is None else error
        self._order.set()

    def finish(self) -> None:
        self._error = None
        self._order.set()


class Stage:
    """The probes of one test, their common log, and the events of the tree."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events: list[Event] = []
        self.probes: dict[str, Probe] = {}

    def __getitem__(self, name: str) -> Probe:
        return self.probes[name]

    def spec(self, name: str, **fields: Any) -> Worker[None]:
        """A permanent child, restarted at once unless a test wants it otherwise."""
        probe = self.probes[name] = Probe(name, self.log)
        return Worker(name, probe.run, **{"backoff": NO_BACKOFF} | fields)

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self, path: str) -> list[str]:
        return [str(event.kind) for event in self.events if event.path == path]

    def take_log(self) -> str:
        """The log since the last time, as words: ``+a +b -b``."""
        text = " ".join(self.log)
        self.log.clear()
        return text

    def up(self) -> set[str]:
        return {name for name, probe in self.probes.items() if probe.up}


def observed(supervisor: S, *observers: Callable[[Event], object]) -> S:
    """The same supervisor, with these observers."""
    for observer in observers:
        supervisor.observe(observer)
    return supervisor


async def terminate(supervisor: Supervisor, path: str) -> None:
    """Stop a node by hand, and wait until it is down."""
    node = supervisor.find(path)
    node.stop()
    await node.wait_down()


async def settled() -> None:
    """Until nobody has anything to do any more without time passing."""
    await wait_all_tasks_blocked()


async def run_expecting(
    root: Supervisor,
    kind: type[BaseException],
    cause: BaseException | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``root`` to its abnormal end, for `trio.Nursery.start`."""
    with pytest.raises(kind) as caught:
        await root.run(task_status=task_status)
    if cause is not None:
        assert caught.value.__cause__ is cause


async def leak_a_cancelled() -> None:
    """What some libraries do by mistake: a `trio.Cancelled` outside of the scope that it belongs to."""
    leaked: trio.Cancelled | None = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            leaked = exc
    assert leaked is not None
    raise leaked
