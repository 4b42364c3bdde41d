"""What calls raise, and how an application has its own errors raised instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class RedisError(Exception):
    """Base of all errors that this library raises on purpose, except a ValueError for wrong arguments."""


class RedisUnavailable(RedisError):
    """No reply came in time, or the server cannot run commands now. The same call may succeed later.

    The command may have run. ``detail`` says why in a few words, without credentials; the next attempt is worth while
    after ``retry_after_s``.
    """

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(f"Redis is not available: {detail}")
        self.detail = detail
        self.retry_after_s = retry_after_s


class RedisFull(RedisUnavailable):
    """The server has reached `maxmemory`, and the command needs memory. It did not run."""

    def __init__(self) -> None:
        super().__init__("it is full (used memory has reached maxmemory)", 10.0)


class LockLost(RedisUnavailable):
    """Another process took the lock, or it could not be renewed in time."""


class RedisRefused(RedisError):
    """The server returned an error that is not an outage: a bug. ``code`` is its first word (``NOGROUP``)."""

    def __init__(self, command: str, code: str, message: str) -> None:
        super().__init__(f"redis refused {command}: {code} {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Errors:
    """What makes the errors of a `Redis`: classes, or functions that return an error of the class or of a subclass.

    An application can give subclasses that are also errors of its own: code that catches those then catches these.
    """

    unavailable: Callable[[str, float], RedisUnavailable] = RedisUnavailable
    """Gets ``detail`` and ``retry_after_s``."""
    full: Callable[[], RedisFull] = RedisFull
    lock_lost: Callable[[str], LockLost] = LockLost
    """Gets ``detail``."""
    refused: Callable[[str, str, str], RedisRefused] = RedisRefused
    """Gets the command, the code and the rest of the server's message."""
