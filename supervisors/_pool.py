"""Pools: supervisors of children that come and go, and tasks with a result."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from functools import partial
from itertools import count
from typing import Any, Generic, NoReturn, TypeVar, TypeVarTuple

import trio

from supervisors._child import Child
from supervisors._errors import SpecError, SupervisionError, TaskFailed, TooManyChildren
from supervisors._nodes import Node, Supervisor
from supervisors._policy import Backoff, Intensity, Policy, Restart

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class DynamicSupervisor(Supervisor):
    """Runs independent children that come and go: each is forgotten after its end, and all stop at once.

    At most ``max_children`` at any time, including those in backoff and those that stop. Raises `SpecError`.
    """

    def __init__(
        self,
        name: str,
        *,
        max_children: int | None = None,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        restart: Restart = Restart.PERMANENT,
        grace_s: float = 30.0,
        significant: bool = False,
    ) -> None:
        if max_children is not None:
            _check_count(f"{name!r}: max_children", max_children)
        super().__init__(
            name, intensity=intensity, backoff=backoff, restart=restart, grace_s=grace_s, significant=significant
        )
        self._new_engine = partial(self._new_engine, forgets=True)
        self._max_children = math.inf if max_children is None else max_children
        self._numbers = count(1)

    @property
    def stop_budget_s(self) -> float:
        """Infinite, because the children are not known in advance. Below another supervisor ``grace_s`` limits it."""
        return math.inf

    def start_task(
        self, fn: Callable[[*Ts], Awaitable[R]], *args: *Ts, name: str = "", grace_s: float = 0.0
    ) -> Task[R]:
        """Start a plain async function, which is never restarted. Raises `TooManyChildren`, `NotRunning`.

        After a request to stop, it has ``grace_s`` to end by itself; then it is cancelled. It runs in a copy of the
        caller's context. If ``name`` is in use, a number is appended.
        """
        is_free = name and name not in self._records
        task = Task(name if is_free else self.new_name(name or "task"), partial(fn, *args), grace_s)
        self._add(task)
        return task

    async def map(self, fn: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int) -> list[R]:
        """Run ``fn`` on each item as a child, at most ``limit`` at a time; return the results in the items' order.

        They wait for places. The first failure cancels the others; it is raised as from a nursery, in a group. Raises
        `SpecError` for a ``limit`` below 1.
        """
        _check_count("limit", limit)
        results: dict[int, R] = {}
        numbered = enumerate(items)

        async def work() -> None:
            for number, item in numbered:  # all workers take from it
                await self.wait_for_place()
                results[number] = await self.call(fn, item)

        async with trio.open_nursery() as nursery:
            for _ in range(limit):
                nursery.start_soon(work)
        return [results[number] for number in range(len(results))]

    async def wait_for_place(self) -> None:
        """Wait until there are fewer than ``max_children``. The place is the caller's until its next checkpoint."""
        await trio.lowlevel.checkpoint()
        while len(self._records) >= self._max_children:
            await self._record.waiters.park()

    def new_name(self, prefix: str) -> str:
        """Return a name for a child that no child has now: ``prefix`` with a number that was not used before."""
        return next(name for number in self._numbers if (name := f"{prefix}-{number}") not in self._records)

    async def call(self, fn: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> R:
        """Run a plain async function as a child and return its result. Raises like `start_task` and `Task.result`.

        A cancel cancels the task and waits for it, as a nursery does. Then an error of its clean-up is raised.
        """
        task = self.start_task(fn, *args)
        try:
            return await task.result()
        except (trio.Cancelled, KeyboardInterrupt):
            await self._take_back(task, TaskFailed(task.path, "failed"))
            raise

    def _place(self, nodes: list[Node[Any]]) -> None:
        if nodes and len(self._records) >= self._max_children:
            raise TooManyChildren(f"{self.path} has {len(self._records)} children already")
        super()._place(nodes)


class Task(Node[None], Generic[R]):
    """The node of one `DynamicSupervisor.start_task`."""

    def __init__(self, name: str, fn: Callable[[], Awaitable[R]], grace_s: float) -> None:
        super().__init__(name, self._run, Policy(Restart.TEMPORARY, grace_s, math.inf, significant=False))
        self._record.keeps_error = True
        self._record.context = copy_context()
        self._fn = fn
        self._result: list[R] = []

    async def _run(self, child: Child[Any]) -> None:
        child.started()
        fn = self._fn
        del self._fn  # nothing else keeps what it holds
        self._result.append(await fn())

    def restart(self) -> NoReturn:
        """Raise `SupervisionError`: a task has one result, so it runs once."""
        raise SupervisionError(f"{self.path} is a task, which runs once: start another one")

    async def result(self) -> R:
        """Wait for the end of the task and return its value. A cancel leaves the task running.

        Raises `TaskFailed`, whose cause is the task's error, or None if it was stopped.
        """
        record = self._record
        record.is_awaited = True
        while not record.over:
            await record.waiters.park()
        await trio.lowlevel.checkpoint()
        if self._result:
            return self._result[0]
        error = record.membership.error
        raise TaskFailed(self.path, "was stopped" if error is None else "failed") from error


def _check_count(what: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise SpecError(f"{what} must be an integer of at least 1, not {value!r}")
