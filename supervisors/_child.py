"""The handle that a running child has of its supervisor, and plain Trio functions as children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar, TypeVarTuple, overload
from weakref import WeakSet

import trio
from trio.lowlevel import enable_ki_protection

T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)
A = TypeVar("A")
A_contra = TypeVar("A_contra", contravariant=True)
Ts = TypeVarTuple("Ts")
_NOTHING: Any = None  # the value of a child that has none (T = None)


class Child(trio.TaskStatus[T]):
    """One incarnation of a worker: its name, whether its stop was requested, and how it reports its start.

    ``path`` names the child in the whole tree (``service/processing/reader``), ``incarnation`` counts its starts from
    1. ``stopping`` is set when the supervisor requests the stop, for ``stop_reason``; the child then has its grace to
    return, and is cancelled after that. ``last_value`` is the started value of the incarnation before. Only the
    child's own tasks use this object.
    """

    def __init__(self, path: str, incarnation: int, last_value: T | None, on_started: Callable[[T], None]) -> None:
        self.path = path
        self.incarnation = incarnation
        self.last_value = last_value
        self.stopping = trio.Event()
        self.stop_reason: str | None = None
        self.ignored = False
        self._on_started = on_started
        self._reported = False
        self._until_stopping: Iterable[trio.CancelScope] = ()  # of the blocks that run

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @enable_ki_protection
    def started(self, value: T = _NOTHING) -> None:
        """Report the end of the start, with a value for others; the next child may start. Never waits.

        Raises RuntimeError if it is called again, like `trio.TaskStatus.started`. It has no effect after the stop was
        requested.
        """
        if self._reported:
            raise RuntimeError(f"{self.path} called started() twice")
        self._reported = True
        self._on_started(value)

    def until_stopping(self) -> AbstractContextManager[trio.CancelScope, bool]:
        """Run the block in a cancel scope, which it yields, and cancel it when the stop is requested.

        It is for work that can end anywhere, such as waiting for something to do. Work that must be finished belongs
        after the block. If the stop was requested before, the block is cancelled at its first checkpoint.
        """
        scope = trio.CancelScope()
        self._until_stopping = WeakSet([*self._until_stopping, scope])  # nothing else holds it after the block
        if self.stopping.is_set():
            scope.cancel(f"{self.path}: {self.stop_reason}")
        return scope

    def ignore(self) -> None:
        """Report that there is nothing to run. The next return then ends the start, and the child is not restarted."""
        self.ignored = True

    def request_stop(self, reason: str) -> None:
        """Set ``stopping``. Only the supervisor calls this, once. It is not part of the public interface."""
        self.stop_reason = reason
        self.stopping.set()
        for scope in self._until_stopping:
            scope.cancel(f"{self.path}: {reason}")


Body = Callable[[Child[T]], Awaitable[None]]
"""The ``run`` of a worker whose started value is a ``T``."""


# mypy cannot infer `*Ts` of a function with a keyword argument, hence one protocol for each number of arguments.
class Starts0(Protocol[S_co]):
    def __call__(self, *, task_status: trio.TaskStatus[S_co]) -> Awaitable[object]: ...


class Starts1(Protocol[A_contra, S_co]):
    def __call__(self, a: A_contra, /, *, task_status: trio.TaskStatus[S_co]) -> Awaitable[object]: ...


@overload
def nursery_task(fn: Starts0[T], *, start: Literal[True]) -> Body[T]: ...
@overload
def nursery_task(fn: Starts1[A, T], a: A, /, *, start: Literal[True]) -> Body[T]: ...
@overload
def nursery_task(fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> Body[None]: ...
def nursery_task(  # type: ignore[misc]  # mypy does not see that Any accepts `*Ts`
    fn: Callable[..., Awaitable[object]], *args: Any, start: bool = False
) -> Body[Any]:
    """Turn a plain Trio function into the ``run`` of a worker. It is cancelled as soon as the stop is requested.

    With ``start`` it is called as `trio.Nursery.start` does, with a ``task_status`` (use `functools.partial` for more
    than one argument). Otherwise it is called as ``start_soon`` does, and counts as started at once.
    """

    async def run(child: Child[Any]) -> None:
        with child.until_stopping():
            if start:
                await fn(*args, task_status=child)
            else:
                child.started()
                await fn(*args)

    return run
