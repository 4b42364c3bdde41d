"""The supervisors as their users see them: a specification that can be run, stopped, looked into and disturbed."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from supervisors._child import Child
from supervisors._engine import ROOT, Engine, Plan, child_path
from supervisors._errors import Killed, NoSuchChild, NotRunning, SpecError, StartFailed, describe
from supervisors._policy import AutoShutdown, Intensity, Restart, Strategy, check_escalates
from supervisors._record import Record
from supervisors._spec import ChildSpec, Subtree, check_children, check_name
from supervisors._state import Event, NodeState, Observer, State

log = logging.getLogger("supervisors")


class _Base(Subtree):
    def __init__(self, name: str, specs: tuple[ChildSpec, ...], plan: Plan, observers: Iterable[Observer]) -> None:
        check_name(name)
        for what, value, kind in (
            ("strategy", plan.strategy, Strategy),
            ("intensity", plan.intensity, Intensity),
            ("auto_shutdown", plan.auto_shutdown, AutoShutdown),
        ):
            if not isinstance(value, kind):
                raise SpecError(f"supervisor {name!r}: {what} must be of {kind.__name__}, not {value!r}")
        for spec in specs:
            if spec.restart is not Restart.TEMPORARY:
                check_escalates(spec.name, plan.intensity, spec.backoff)
        self.name = name
        self.children = specs
        self._plan = plan
        self._observers: dict[object, Observer] = dict(enumerate(observers))
        self._engine: Engine | None = None
        self._stop_asked = False
        self._last_failure: str | None = None
        self._since: float | None = None

    # --- running ---

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run as the root of a tree: start all children in order, supervise them, return once they are all stopped.

        ``task_status.started()`` is called when every child is ready, so `trio.Nursery.start` waits for the start.
        Returns after `stop` or an automatic shutdown. Raises, always after the last child has ended:
        `StartFailed` when a child failed before it was ever ready; `TooManyRestarts` (the escalation), with the
        child's own error as its cause; `Killed`; KeyboardInterrupt and its like as they came; `trio.Cancelled` when
        the surrounding scope was cancelled, which makes an ordered stop that takes up to `stop_budget_s`.
        Raises RuntimeError if it runs already.
        """
        await self._run(ROOT, self._tell, task_status.started)

    async def run_below(self, child: Child, parent: Engine) -> None:
        """Run as ``child`` of ``parent``; only the engine calls it."""

        def publish(event: Event) -> None:
            self._tell(event)
            parent.publish(event)

        await self._run(child.path, publish, child.ready, child)

    async def _run(
        self,
        path: str,
        publish: Callable[[Event], None],
        on_started: Callable[[], None],
        child: Child | None = None,
    ) -> None:
        if self._engine is not None and not self._engine.finished:
            raise RuntimeError(f"supervisor {self.name} is running already")
        now = trio.current_time()
        before = {} if self._engine is None else self._engine.records
        engine = Engine(
            path,
            self._plan,
            publish,
            on_started,
            nested=child is not None,
            incarnation=1 if child is None else child.incarnation,
            before=before,
        )
        self._engine = engine
        self._since = now
        engine.add(self.children, now)
        if self._stop_asked:
            engine.begin_stop()
        self._stop_asked = False
        self._last_failure = None
        try:
            if child is not None:
                child.on_stop(engine.begin_stop)
            await engine.serve()
        except trio.Cancelled:  # from outside, and in order: no failure of this tree
            raise
        except BaseException as exc:
            self._last_failure = describe(exc)
            raise
        finally:
            engine.finished = True
            self._since = trio.current_time()

    def stop(self, path: str = ROOT) -> None:
        """Ask for the ordered stop: children right to left, each with its grace. Never waits, may be repeated.

        Before the first `run` it makes that one end at once, with nothing started. On a supervisor inside a tree it is
        an end of its own accord, which its parent may answer with a restart; for a part of a tree, give its ``path`` to
        the root: that is `stop_child`.
        """
        if path != ROOT:
            self.stop_child(path)
        elif self._engine is None:
            self._stop_asked = True
        else:  # nothing, after its end
            self._engine.begin_stop()

    def abort(self) -> None:
        """Stop without any grace: children are cancelled, still right to left. Never waits; nothing if none runs."""
        if self._engine is not None:
            self._engine.abort()

    # --- single nodes: a path is counted from the root, as in `Child.path`, whichever supervisor is called ---

    def kill(self, path: str) -> bool:
        """Cancel a node as if it had crashed by itself; its supervisor then does what it does after a crash.

        A supervisor's children go with it, right to left, without grace. ``/`` is this supervisor: its `run` raises
        `Killed`. Never waits. Returns whether there was something to kill. Raises `NoSuchChild`, `NotRunning`.
        """
        if path == ROOT:
            self._running().crash(Killed(path))
            return True
        engine, record = self._find(path)
        return engine.kill(record, trio.current_time())

    def stop_child(self, path: str) -> None:
        """Ask one node to stop in order, and keep it down until `restart_child`; a dynamic child is removed.

        Never waits; see `terminate_child`. ``/`` is `stop`. Raises `NoSuchChild`, `NotRunning`.
        """
        if path == ROOT:
            self.stop()
            return
        engine, record = self._find(path)
        engine.stop_child(record, trio.current_time())

    async def terminate_child(self, path: str) -> None:
        """`stop_child`, and wait until it is down. A cancel leaves the stop going on. Same errors."""
        engine, record = self._find(path)
        engine.stop_child(record, trio.current_time())
        await record.down.wait()

    def restart_child(self, path: str) -> None:
        """Start a node that is down for good or stopping, or cut its backoff short. Never waits.

        One that is up or has its turn coming is left alone; one that goes down with its group comes up with it.
        Raises `NoSuchChild`, also for a dynamic child that is stopping (it is being removed), and `NotRunning`.
        """
        engine, record = self._find(path)
        engine.restart_child(record, trio.current_time())

    def _running(self) -> Engine:
        if self._engine is None or self._engine.finished:
            raise NotRunning(f"supervisor {self.name} is not running")
        return self._engine

    def _find(self, path: str) -> tuple[Engine, Record]:
        engine = self._running()
        below = path if engine.path == ROOT else path.removeprefix(f"{engine.path}/")
        record = engine.records.get(below.partition("/")[0])
        if record is None or not path.startswith(record.path):
            raise NoSuchChild(path)
        if path == record.path:
            return engine, record
        if not isinstance(record.spec.child, _Base):
            raise NoSuchChild(path)
        return record.spec.child._find(path)

    # --- looking at it ---

    def snapshot(self) -> NodeState:
        """This supervisor and all below, as they are now; paths are those of `Child.path`.

        Never waits, needs no running Trio, and may be called from another thread.
        """
        path = ROOT if self._engine is None else self._engine.path
        return NodeState(
            name=self.name,
            path=path,
            kind="supervisor",
            state=self._state(),
            incarnation=0 if self._engine is None else self._engine.incarnation,
            last_failure=self._last_failure,
            since=self._since,
            children=self.node_children(path),
        )

    def _state(self) -> State:
        engine = self._engine
        if engine is None:
            return State.WAITING
        if engine.finished:
            return State.FAILED if self._last_failure else State.STOPPED
        if engine.stopping:
            return State.STOPPING
        return State.RUNNING if engine.started else State.STARTING

    def node_children(self, path: str) -> tuple[NodeState, ...]:
        """The nodes below ``path``; after an end, as they were last."""
        if self._engine is not None:
            return tuple(record.snapshot() for record in list(self._engine.records.values()))
        return tuple(_not_started(spec, child_path(path, spec.name)) for spec in self.children)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have ``observer`` called with every event of this supervisor's nodes, all the way down.

        It is called from the supervisor's task, soon after the transition and in order, and must not block. An
        exception that it raises is logged and otherwise ignored. Returns a function that takes it off again.
        """
        key = object()
        self._observers[key] = observer
        return lambda: (self._observers.pop(key, None), None)[1]

    def _tell(self, event: Event) -> None:
        for observer in list(self._observers.values()):
            try:
                observer(event)
            except Exception:
                log.exception("an observer failed at %s %s", event.path, event.kind)

    @property
    def stop_budget_s(self) -> float:
        """The longest that an ordered stop takes, the clean-up of children that had to be cancelled aside."""
        return sum(spec.stop_budget_s for spec in self.children)

    @property
    def start_budget_s(self) -> float:
        """The longest that the first start takes, if nothing fails meanwhile."""
        return sum(spec.start_budget_s for spec in self.children)


class Supervisor(_Base):
    """Runs ``children`` (specifications, or supervisors with the default one), started left to right.

    ``strategy`` says who is restarted with a failed child; ``intensity`` how many restarts are too many. With
    ``auto_shutdown`` it returns once any or all of the children marked ``significant`` have ended for good.
    ``random`` gives the chance for backoff jitter, in [0, 1). Wrong arguments raise `SpecError`.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec | Subtree] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        observers: Iterable[Observer] = (),
        random: Callable[[], float] = random.random,
    ) -> None:
        specs = check_children(children)
        if auto_shutdown is AutoShutdown.NEVER and any(spec.significant for spec in specs):
            raise SpecError(f"supervisor {name!r}: significant children need an auto_shutdown")
        plan = Plan(strategy, intensity, auto_shutdown, math.inf, dynamic=False, random=random)
        super().__init__(name, specs, plan, observers)


class DynamicSupervisor(_Base):
    """Children that come and go: each stands for itself, all stop at once, and who has ended is forgotten.

    At most ``max_children`` at any time, those in backoff and those stopping included.
    """

    def __init__(
        self,
        name: str,
        *,
        max_children: int | None = None,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
        observers: Iterable[Observer] = (),
        random: Callable[[], float] = random.random,
    ) -> None:
        if max_children is not None and not (type(max_children) is int and max_children >= 1):
            raise SpecError(f"supervisor {name!r}: max_children must be an integer of at least 1, not {max_children!r}")
        limit = math.inf if max_children is None else max_children
        plan = Plan(Strategy.ONE_FOR_ONE, intensity, AutoShutdown.NEVER, limit, dynamic=True, random=random)
        super().__init__(name, (), plan, observers)

    async def start_child(self, spec: ChildSpec) -> str:
        """Add a child and wait until it is ready; returns its path.

        Raises `StartFailed` (its own error is the cause) when it ended before it was ready, which is not retried and
        not counted; `TooManyChildren`; `SpecError` for a name in use or a significant child; `NotRunning`.
        A cancel has the child stopped again: nobody would know of it.
        """
        if spec.significant:
            raise SpecError(f"child {spec.name!r}: a dynamic supervisor has no significant children")
        engine = self._running()
        (record,) = engine.add((spec,), trio.current_time())
        try:
            await record.settled.wait()
        except trio.Cancelled:
            engine.stop_child(record, trio.current_time())
            raise
        if record.start_error is not None or record.state is State.STOPPED:
            raise StartFailed(record.path) from record.start_error
        return record.path

    @property
    def stop_budget_s(self) -> float:
        """Infinite, as nobody knows who will come; ``shutdown_s`` in its `ChildSpec` bounds it inside a tree."""
        return math.inf


AnySupervisor = TypeVar("AnySupervisor", Supervisor, DynamicSupervisor)


@asynccontextmanager
async def open_tree(root: AnySupervisor) -> AsyncIterator[AnySupervisor]:
    """Run ``root`` in the background of the block: entered when all children are ready, left when all are stopped.

    If the tree fails, the block is cancelled and an ExceptionGroup with the failure is raised.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        try:
            yield root
        finally:
            root.stop()


def _not_started(spec: ChildSpec, path: str) -> NodeState:
    return NodeState(
        name=spec.name,
        path=path,
        kind="worker" if spec.child is None else "supervisor",
        state=State.WAITING,
        incarnation=0,
        last_failure=None,
        since=None,
        children=() if spec.child is None else spec.child.node_children(path),
    )
