"""Everything that supervision itself raises or reports. A child's own exception hangs on ``__cause__``, whole."""

from __future__ import annotations

import trio

_MAX_TEXT = 500  # characters of an error kept in a snapshot: enough for a message, never a whole traceback


class SupervisionError(Exception):
    """Base of all errors of this package."""


class SpecError(SupervisionError, ValueError):
    """A specification that cannot work. Raised where it is written down, not where it would fail."""


class StartFailed(SupervisionError):
    """A child failed before it was ready for the first time; what had been started is stopped again."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} failed to start")
        self.path = path


class StartTimeout(SupervisionError):
    """A child did not call `Child.ready` in time and was cancelled."""

    def __init__(self, path: str, start_timeout_s: float) -> None:
        super().__init__(f"{path} was not ready within {start_timeout_s:g} s")
        self.path = path


class UnexpectedReturn(SupervisionError):
    """A permanent child returned: it had no right to, so it counts as a failure."""

    def __init__(self, path: str, *, was_ready: bool) -> None:
        super().__init__(f"{path} returned{'' if was_ready else ' before it was ready'}")
        self.path = path


class Killed(SupervisionError):
    """Somebody called `Supervisor.kill`."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} was killed")
        self.path = path


class TooManyRestarts(SupervisionError):
    """The escalation: the children of one supervisor failed more often than its intensity allows."""

    def __init__(self, path: str, child: str, max_restarts: int, within_s: float) -> None:
        super().__init__(f"{path}: more than {max_restarts} restarts within {within_s:g} s, the last for {child}")
        self.path = path
        self.child = child


class NotRunning(SupervisionError):
    """The supervisor is not running, or is already stopping."""


class NoSuchChild(SupervisionError, LookupError):
    """No node has that path."""


class TooManyChildren(SupervisionError):
    """A `DynamicSupervisor` has ``max_children`` already."""


def is_fatal(error: BaseException) -> bool:
    """Whether ``error`` holds anything that no restart may swallow, such as KeyboardInterrupt or SystemExit.

    A `trio.Cancelled` is not: children run shielded, so one that gets out of a child was of the child's own making.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(is_fatal(inner) for inner in error.exceptions)
    return not isinstance(error, Exception | trio.Cancelled)


def describe(error: BaseException) -> str:
    """One bounded line for people: the type, the message, and the leaves where it is a group.

    The text is user code: an error that cannot be shown must not end the supervisor that reports it.
    """
    try:
        text = _text_of(error)
    except BaseException:  # noqa: BLE001 - also a SystemExit of `__str__`: it says nothing about the program
        text = f"<{type(error).__name__}: its text cannot be shown>"
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _text_of(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        inner = "; ".join(describe(each) for each in error.exceptions)
        return f"{type(error).__name__}: {error.message} [{inner}]"
    message = str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
