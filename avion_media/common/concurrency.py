"""Runs calls until one has ended; reads once for many; limits a rate. See also `trio_redis.run_all`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")
Call = Callable[[], Awaitable[object]]


async def first_of(*calls: Call) -> None:
    """Run all calls at once; return as soon as one of them does. The others are cancelled."""
    async with trio.open_nursery() as nursery:

        async def run(call: Call) -> None:
            await call()
            nursery.cancel_scope.cancel()

        for call in calls:
            nursery.start_soon(run, call)


async def take(limiter: trio.CapacityLimiter) -> None:
    """Take a token, which the caller releases. Unlike `acquire`, let no other task run if one is free."""
    try:
        limiter.acquire_nowait()
    except trio.WouldBlock:
        await limiter.acquire()


class Shared(Generic[T]):
    """What is read for many at once, at most every ``fresh_s``. An error or a cancel keeps what was read before."""

    def __init__(self, read: Callable[[], Awaitable[T]], fresh_s: float) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._reading = trio.Lock()
        self._found: tuple[float, T] | None = None

    async def get(self) -> T:
        """Return what was read a moment ago, or read it."""
        async with self._reading:
            if self._found is None or trio.current_time() - self._found[0] > self._fresh_s:
                found = await self._read()
                self._found = trio.current_time(), found
            return self._found[1]

    @property
    def last(self) -> T | None:
        """What was read last, however long ago; None before the first time."""
        return None if self._found is None else self._found[1]

    def forget(self) -> None:
        """Read it again at the next call, because something has changed."""
        self._found = None


class RateLimiter:
    """Lets ``rate`` callers pass per second, evenly spaced. Unused turns are not saved up."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1.0 / rate
        self._next_at = -1.0

    async def acquire(self) -> None:
        """Wait for the turn of this caller. A cancelled turn is lost."""
        now = trio.current_time()
        turn = max(now, self._next_at)
        self._next_at = turn + self._interval_s
        await trio.sleep_until(turn)
