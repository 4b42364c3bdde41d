"""Errors of supervision, whose ``__cause__`` is the child's own exception; errors and stacks as text."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import islice
from typing import TypeGuard

import trio

_MAX_TEXT = 500  # characters of an error kept in a snapshot: enough for a message, never a whole traceback
_MAX_TASKS = 10  # of a stack: enough to see what they have in common


class SupervisionError(Exception):
    """Base of all errors of this package."""


class SpecError(SupervisionError, ValueError):
    """The description of a tree is not valid. Raised when it is written, not when it runs."""


class NodeError(SupervisionError):
    """Something happened to one node. The message is its path, and ``what`` happened."""

    what: str

    def __init__(self, path: str, what: str = "") -> None:
        super().__init__(f"{path} {what or self.what}")
        self.path = path


class StartFailed(NodeError):
    """The first start of a node failed. The cause is the child's error, `TimeoutError` if it was late."""

    what = "failed to start"


class TooManyRestarts(SupervisionError):
    """The children of one supervisor failed more often than its intensity allows, so it escalates."""

    def __init__(self, path: str, child: str, max_restarts: float, within_s: float) -> None:
        super().__init__(f"{path}: more than {max_restarts:g} restarts within {within_s:g} s, the last for {child}")
        self.path = path
        self.child = child


class TaskFailed(NodeError):
    """A task has no result: it failed (the error is the cause), or it was stopped (there is no cause)."""


class NotRunning(SupervisionError):
    """The node does not run, and nothing is about to start it."""


class TooManyChildren(SupervisionError):
    """A `DynamicSupervisor` has ``max_children`` already."""


class Killed(NodeError):
    """The cause of a failure that `Node.kill` made."""

    what = "was killed"


class Stuck(NodeError):
    """The error of the event ``stuck``: a child runs on although it was cancelled."""


class Shutdown(Exception):
    """Raised by a child to end without a failure, with a reason (OTP: ``{shutdown, Reason}``)."""


def is_fatal(error: BaseException) -> bool:
    """Return whether ``error`` contains something that no restart may swallow, such as KeyboardInterrupt or SystemExit.

    A `trio.Cancelled` is not fatal: children run shielded, so it comes from the child itself.
    """
    return any(not isinstance(leaf, Exception | trio.Cancelled) for leaf in leaves_of(error))


def is_shutdown(error: BaseException | None) -> TypeGuard[BaseException]:
    """Return whether ``error`` is a `Shutdown`, or a group of nothing else."""
    return error is not None and all(isinstance(leaf, Shutdown) for leaf in leaves_of(error))


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group, or the error itself. A group can be nested deeper than Python can recurse."""
    left = [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            yield each


def text_of(error: BaseException) -> str:
    """Return one line for people, of limited length: the type, the message, and the leaves of a group."""
    message = message_of(error)
    if isinstance(error, BaseExceptionGroup):
        some = islice(leaves_of(error), _MAX_TEXT)  # each has at least one character
        message = f"{error.message} [{'; '.join(text_of(each) for each in some)}]"
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def message_of(error: BaseException) -> str:
    """Return ``str(error)``. That is user code: if it raises, the supervisor that reports it must not end."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - also a SystemExit of `__str__`: it says nothing about the program
        return "its text cannot be shown"


def stack_of(task: trio.lowlevel.Task, max_tasks: float = _MAX_TASKS) -> str:
    """Return where a task waits, and the tasks in its nurseries: one line for each frame and its code.

    Can run in another thread. What changes meanwhile cannot be shown.
    """
    lines: list[str] = []
    left = [task]
    while left and len(lines) < max_tasks:
        each = left.pop()
        try:
            frames = traceback.StackSummary.extract(each.iter_await_frames()).format()
        except Exception as error:  # noqa: BLE001 - an awaitable that Trio cannot look into, or that runs
            frames = [f"  cannot be shown: {error!r}\n"]
        lines.append(f"task {each.name}\n{''.join(frames)}")
        left += [child for nursery in each.child_nurseries for child in nursery.child_tasks]
    return "".join(lines).rstrip()
