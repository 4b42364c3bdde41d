"""The nodes of a tree: descriptions of its parts, and handles of their runs; a tree beside a block of code."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

import trio
from trio.lowlevel import enable_ki_protection

from supervisors._child import Child
from supervisors._engine import AUTOMATIC_SHUTDOWN, Engine
from supervisors._errors import Killed, NotRunning, SpecError, StartFailed, SupervisionError
from supervisors._policy import (
    AutoShutdown,
    Backoff,
    Intensity,
    Policy,
    Restart,
    Strategy,
    check_escalates,
    check_seconds,
)
from supervisors._record import ROOT, Membership, Record
from supervisors._state import End, Event, NodeState, State

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound="Supervisor")


class Node(Generic[T_co]):
    """A part of a tree: its description, and the handle of its run. ``T_co`` is the type of its started value.

    A node has one place at a time. Only its ``async`` functions wait.
    """

    def __init__(self, name: str, run: Callable[[Child[Any]], Awaitable[object]], policy: Policy) -> None:
        if not isinstance(name, str) or not name or not name.isprintable() or "/" in name or " " in name:
            raise SpecError(f"a name is printable text without spaces and slashes, not {name!r}")
        _check(name, "restart", policy.restart, Restart)
        _check(name, "significant", policy.significant, bool)
        check_seconds(f"{name!r}: grace_s", policy.grace_s, zero=True)
        check_seconds(f"{name!r}: start_timeout_s", policy.start_timeout_s, zero=False)
        if policy.significant and policy.restart is Restart.PERMANENT:
            raise SpecError(f"{name!r}: a permanent child never ends for good, so it cannot be significant")
        self._record = Record(name, run, policy, self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.state}>"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._record.name

    @property
    def path(self) -> str:
        """The path, counted from the root, whose own path is ``/``. Known before the run, and after the node's end."""
        return self._record.path

    @property
    def policy(self) -> Policy:
        """How the node is restarted, started and stopped."""
        return self._record.policy

    @property
    def state(self) -> State:
        """The present state."""
        return self._record.state

    @property
    def value(self) -> T_co:
        """The started value of the running incarnation. Raises `NotRunning` otherwise."""
        if not self._record.runs:
            raise NotRunning(f"{self.path} is {self._record.state}")
        return cast("T_co", self._record.value)

    async def wait_started(self) -> T_co:
        """Wait until the node runs, and return its started value. A cancel changes nothing.

        Raises `StartFailed` if its first start fails, and `NotRunning` if it ends or stays down instead.
        """
        record = self._record
        seen = record.starts
        await trio.lowlevel.checkpoint()
        while not record.runs and record.starts == seen:
            changing = record.next_to_change()
            if changing is None:
                if record.membership.error is not None and not record.membership.ever_started:
                    raise StartFailed(self.path) from record.membership.error
                raise NotRunning(f"{self.path} is {record.state}")
            await changing.waiters.park()
        return cast("T_co", record.value)

    async def wait_down(self) -> End | None:
        """Wait until no task of the node exists, and return how it ended; None if it was down before.

        A cancel changes nothing.
        """
        incarnation = self._record.incarnation
        while incarnation is not None and incarnation.end is None:
            await self._record.waiters.park()
        await trio.lowlevel.checkpoint()
        return None if incarnation is None else incarnation.end

    @enable_ki_protection
    def stop(self, grace_s: float = math.inf) -> None:
        """Request the ordered stop; the whole subtree is cancelled after ``grace_s``. It stays down until `restart`.

        The stop of a root ends its `Supervisor.run`; before a run it makes the next run end with nothing started. A
        dynamic child is forgotten after its end. A repeated call can only shorten the stop.
        """
        check_seconds("grace_s", grace_s, zero=True)
        record = self._record
        if record.supervisor is not None:
            record.supervisor.stop_child(record, trio.current_time() + grace_s)
        elif record.below is not None:  # a root
            record.below.request_stop("shutdown", trio.current_time() + grace_s)
        else:  # before a run
            record.stays_down = True

    @enable_ki_protection
    def restart(self) -> None:
        """Stop the node if it runs, then start it. This ends a backoff, reverses `stop`, and is not counted.

        If its supervisor is down, the node starts with that supervisor. Raises `NotRunning` while its supervisor stops,
        and for a node without a supervisor (a root, or a dynamic child that was stopped).
        """
        record = self._record
        if record.parent is None or record.membership.removed:
            raise NotRunning(f"{self.path} has no supervisor that could start it")
        if record.supervisor is None:
            record.stays_down = False
        elif record.supervisor.stopping:
            raise NotRunning(f"{record.parent.path} is stopping")
        else:
            record.supervisor.restart_child(record, trio.current_time())

    @enable_ki_protection
    def kill(self) -> bool:
        """Cancel the node as if it had crashed; this is counted and restarts it. Return False if it is down.

        The children of a supervisor end with it, right to left and without grace. A root's `run` raises `Killed`.
        """
        record = self._record
        if record.supervisor is not None:
            record.supervisor.kill(record)
        elif record.below is not None:  # a root
            record.below.fail(Killed(ROOT), None, "kill", trio.current_time())
        return record.up

    def snapshot(self) -> NodeState:
        """Return a frozen copy of the node and all below it. Can be called from any thread at any time."""
        return self._record.snapshot()


class Worker(Node[T_co]):
    """An async function as a child. It gets a `Child`, calls `Child.started`, and returns once its stop is requested.

    ``grace_s`` is the time between the request and the cancellation; 0 cancels at once. The function must call
    ``started`` within ``start_timeout_s``. Without a ``backoff`` its supervisor's applies. ``significant``: see
    `AutoShutdown`. Raises `SpecError`.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Child[T_co]], Awaitable[object]],
        *,
        restart: Restart = Restart.PERMANENT,
        grace_s: float = 5.0,
        start_timeout_s: float = 30.0,
        backoff: Backoff | None = None,
        significant: bool = False,
    ) -> None:
        if not callable(run):
            raise SpecError(f"{name!r}: run must be an async callable, not {run!r}")
        if backoff is not None:
            _check(name, "backoff", backoff, Backoff)
        super().__init__(name, run, Policy(restart, grace_s, start_timeout_s, significant, backoff))


class Supervisor(Node[None]):
    """Runs ``children``, which start left to right and stop right to left.

    ``strategy`` selects the siblings that are restarted with a failed child; ``intensity`` is how many restarts are too
    many; ``backoff`` is the wait before a restart. With ``auto_shutdown`` it stops by itself once any or all of the
    significant children have ended and are not restarted. The other arguments matter below another supervisor. Raises
    `SpecError`, also for a child whose restarts could never exceed the intensity.
    """

    def __init__(
        self,
        name: str,
        children: Iterable[Node[Any]] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        restart: Restart = Restart.PERMANENT,
        grace_s: float = math.inf,
        start_timeout_s: float = math.inf,
        significant: bool = False,
    ) -> None:
        super().__init__(name, self._serve, Policy(restart, grace_s, start_timeout_s, significant))
        _check(name, "strategy", strategy, Strategy)
        _check(name, "intensity", intensity, Intensity)
        _check(name, "backoff", backoff, Backoff)
        _check(name, "auto_shutdown", auto_shutdown, AutoShutdown)
        self._auto_shutdown = auto_shutdown
        self._intensity, self._backoff = intensity, backoff
        self._records: dict[str, Record] = {}
        self._record.children = self._records
        # Makes the engine of one run.
        self._new_engine = partial(Engine, self._record, intensity, strategy, backoff, auto_shutdown, forgets=False)
        self._place(list(children))

    @property
    def children(self) -> tuple[Node[object], ...]:
        """The children, in start order; live."""
        return tuple(record.node for record in list(self._records.values()))

    @property
    def stop_budget_s(self) -> float:
        """The longest ordered stop, without the clean-up of cancelled children."""
        total_s = 0.0
        for child in self.children:
            below_s = child.stop_budget_s if isinstance(child, Supervisor) else math.inf
            total_s += min(child._record.policy.grace_s, below_s)
        return total_s

    # --- running ---

    @enable_ki_protection
    async def run(
        self, *, cancel_grace_s: float = math.inf, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run as a root: start all children in order, supervise them, return once they are all stopped.

        ``task_status.started()`` is called when every child has started. Returns after `stop` or an automatic
        shutdown. Raises, always after the last child has ended: `StartFailed`; `TooManyRestarts`, with the child's
        error as its cause; `Killed`; KeyboardInterrupt and its like; `trio.Cancelled` if the surrounding scope was
        cancelled. A cancel causes an ordered stop: each child has its own grace, and all together ``cancel_grace_s``.
        Raises RuntimeError if it runs already or has a supervisor.
        """
        check_seconds("cancel_grace_s", cancel_grace_s, zero=True)
        record = self._record
        if record.parent is not None or record.below is not None:
            raise RuntimeError(f"{self.path} is running already, or runs below another supervisor")
        record.membership = Membership()
        record.force(State.WAITING, trio.current_time())
        await self._serve(task_status, cancel_grace_s)

    async def _serve(self, task_status: trio.TaskStatus[None], cancel_grace_s: float = math.inf) -> None:
        """Run as a root, or as the child of another supervisor, whose `Child` is a status too."""
        self._record.below = self._new_engine(on_started=task_status.started, cancel_grace_s=cancel_grace_s)
        try:
            await self._record.below.serve()
        finally:
            self._record.below = None

    # --- its children ---

    async def start(self, node: Node[T]) -> T:
        """Add a child on the right, and return its started value.

        A restart of this supervisor forgets the child. Raises `StartFailed` if the start fails; then the child is not
        kept, and the start is neither retried nor counted. Raises `NotRunning` if the child ends otherwise before it
        has started; also `SpecError`, `TooManyChildren`. A cancel cancels and removes the child, and waits for its end,
        as `trio.Nursery.start` does. Then an error of its clean-up is raised, as `StartFailed`.
        """
        self._add(node)
        try:
            return await node.wait_started()
        except (trio.Cancelled, KeyboardInterrupt):
            await self._take_back(node, StartFailed(node.path))
            raise

    async def _take_back(self, node: Node[Any], failure: SupervisionError) -> None:
        """Cancel and remove a child, and wait for its end. If it raises meanwhile, raise ``failure`` from that."""
        record, engine = node._record, self._record.below
        record.is_awaited = True  # the caller gets the error
        if engine is not None and record.parent is self._record:
            engine.stop_child(record, trio.current_time(), remove=True)
        # Shielded, so that no child is left without an owner. Bounded by the clean-up of the child.
        with trio.CancelScope(shield=True):
            await node.wait_down()
        if record.membership.error is not None:
            raise failure from record.membership.error

    @enable_ki_protection
    def _add(self, node: Node[Any]) -> None:
        engine = self._record.below
        if engine is None or engine.stopping:
            raise NotRunning(f"{self.path} is not running")
        self._place([node])
        node._record.stays_down = False
        engine.add([node._record], trio.current_time())

    async def remove(self, node: Node[Any]) -> None:
        """Stop a child, wait until it is down, and forget it; the object can be added again.

        Raises LookupError if it is not a child of this supervisor. After a cancel, the stop and the removal continue.
        """
        record = node._record
        if record.parent is not self._record:
            raise LookupError(f"{node.path} is not a child of {self.path}")
        engine = self._record.below
        if engine is None:
            record.leave()
        else:
            engine.stop_child(record, math.inf, remove=True)
        await node.wait_down()

    def find(self, path: str) -> Node[object]:
        """Return the node with this path, counted from the root, whichever supervisor is called. Raises LookupError."""
        record = self._record.line()[-1]
        for name in [] if path == ROOT else path.split("/"):
            below = (record.children or {}).get(name)
            if below is None:
                raise LookupError(f"no node has the path {path!r}")
            record = below
        return cast("Node[object]", record.node)

    def observe(self, callback: Callable[[Event], object]) -> Callable[[], object]:
        """Call ``callback`` with every event of this subtree, in order, soon after the transition.

        The root's task calls it, so it must not block. An exception that it raises is logged. Return a function that
        ends the calls.
        """
        key, observers = object(), self._record.observers
        observers[key] = callback
        return partial(observers.pop, key, None)

    def _place(self, nodes: list[Node[Any]]) -> None:
        """Check all nodes, then give them their places, so that an error changes nothing."""
        names: set[str] = set()
        for node in nodes:
            if not isinstance(node, Node):
                raise SpecError(f"a child of {self.name!r} is a node, not {node!r}")
            record = node._record
            if record.parent is not None or record.below is not None or record in self._record.line():
                raise SpecError(f"{node.path} has a place already")
            if node.name in names or node.name in self._records:
                raise SpecError(f"{self.name!r} has two children with the name {node.name!r}")
            if record.policy.significant and self._auto_shutdown is AutoShutdown.NEVER:
                raise SpecError(f"{self.name!r}: significant children need an auto_shutdown")
            if record.policy.restart is not Restart.TEMPORARY:
                check_escalates(node.name, self._intensity, record.policy.backoff or self._backoff)
            names.add(node.name)
        for node in nodes:
            self._records[node.name] = node._record
            node._record.parent = self._record


@asynccontextmanager
async def open_tree(root: S, *, cancel_grace_s: float = math.inf) -> AsyncIterator[S]:
    """Run ``root`` beside the block. The block begins when all children have started, and the tree stops after it.

    An exception of the block is raised after the ordered stop. A cancel from outside causes an ordered stop, as in
    `Supervisor.run`. A tree that fails or shuts down automatically cancels the block.
    Errors are raised in a group, as from a nursery; `NotRunning` if the root was stopped before the block began.
    """
    started, ended, block = trio.Event(), trio.Event(), trio.CancelScope()
    status: Child[None] = Child(root.path, 1, None, lambda _value: started.set())

    async def run() -> None:
        try:
            await root.run(cancel_grace_s=cancel_grace_s, task_status=status)
            started.set()  # or it was stopped before
            if root._record.reason == AUTOMATIC_SHUTDOWN:
                block.cancel(AUTOMATIC_SHUTDOWN)
        finally:
            ended.set()

    # Not by `trio.Nursery.start`, which raises TrioInternalError if the start fails and the caller is interrupted.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            await started.wait()
            if ended.is_set():
                raise NotRunning(f"{root.path} was stopped before its block began")
            with block:
                yield root
        finally:
            if not ended.is_set():  # otherwise the request would hold for the next run
                root.stop()
            with suppress(trio.Cancelled):  # the nursery waits anyway, and the block's own error must come out
                await ended.wait()


def _check(name: str, what: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise SpecError(f"{name!r}: {what} must be of {kind.__name__}, not {value!r}")
