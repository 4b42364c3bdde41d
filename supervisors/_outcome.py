"""How a run of a supervisor ends: gathered while its children stop, raised after the last of them."""

from __future__ import annotations

import trio


class Outcome:
    """The first failure, and what came from outside; the latter goes first, as no restart may answer it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._failure: Exception | None = None
        self._cancelled: trio.Cancelled | None = None
        self._fatal: list[BaseException] = []

    def fail(self, failure: Exception, cause: BaseException | None = None) -> None:
        """The supervisor gives up; only the first reason counts."""
        if self._failure is None:
            failure.__cause__ = cause
            self._failure = failure

    def interrupt(self, error: BaseException) -> None:
        """A cancellation from outside, or what is_fatal tells of."""
        if isinstance(error, trio.Cancelled):
            self._cancelled = error
        else:
            self._fatal.append(error)

    @property
    def interrupted(self) -> bool:
        """Whether a KeyboardInterrupt or its like came before."""
        return bool(self._fatal)

    @property
    def error(self) -> BaseException | None:
        """What an observer is told; a cancellation from outside is no failure."""
        if len(self._fatal) > 1:
            return BaseExceptionGroup(f"{self._path} was interrupted more than once", self._fatal)
        return self._fatal[0] if self._fatal else self._failure

    def raise_if_any(self) -> None:
        """Raise it, or return if the end was an orderly one."""
        if self._cancelled is not None and not self._fatal:
            raise self._cancelled
        error = self.error
        if error is not None:
            raise error
