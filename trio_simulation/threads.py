"""Threads without threads: the function runs at once, and takes virtual time."""

from __future__ import annotations

import contextvars
import random
import time as time_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from .patches import Patches
from .processes import current_process

# A thread of a busy machine: the hand-over takes 20 to 100 µs each way.
_HAND_OVER_S = (0.00002, 0.0001)


@dataclass(slots=True)
class _Call:
    """One function in its thread."""

    slept_s: float = 0.0


_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("trio_simulation.thread", default=None)


def patch_threads(patches: Patches, seed: str, spawn: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    """Let `trio.to_thread.run_sync` call its function in the loop, at a moment that the seed chooses.

    `time.sleep` in the function makes the call take longer. `trio.from_thread.run` is not possible, because nothing
    else can run until the function returns. A function that waits for another thread waits without end.

    Args:
      spawn: starts a task in the process of the current task.
    """
    chance = random.Random(f"{seed}/threads")

    async def run_sync(
        sync_fn: Callable[..., Any],
        *args: Any,
        thread_name: str | None = None,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
    ) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        limiter = limiter or trio.to_thread.current_default_thread_limiter()
        thread = _Thread(sync_fn, args, limiter, chance)
        await limiter.acquire_on_behalf_of(thread)
        spawn(thread.run)
        # As in Trio, a call that must not be abandoned ends before its task is cancelled.
        with trio.CancelScope(shield=not abandon_on_cancel):
            await thread.done.wait()
        return thread.result()

    def from_thread_run(fn: Callable[..., Any], *args: Any, **_: Any) -> Any:
        raise RuntimeError("trio.from_thread.run cannot be simulated: the thread's function runs in the loop")

    def from_thread_run_sync(fn: Callable[..., Any], *args: Any, **_: Any) -> Any:
        return fn(*args)

    def check_cancelled() -> None:
        """Nothing can cancel a call while it runs."""

    def sleep(seconds: float, /) -> None:
        call = _call.get()
        if call is None:
            raise RuntimeError("time.sleep would stop the whole program: call it in a thread, or await trio.sleep")
        call.slept_s += seconds

    patches.everywhere(trio.to_thread.run_sync, run_sync)
    patches.everywhere(trio.from_thread.run, from_thread_run)
    patches.everywhere(trio.from_thread.run_sync, from_thread_run_sync)
    patches.everywhere(trio.from_thread.check_cancelled, check_cancelled)
    patches.everywhere(time_module.sleep, sleep)


class _Thread:
    def __init__(
        self, function: Callable[..., Any], arguments: Any, limiter: trio.CapacityLimiter, chance: random.Random
    ) -> None:
        self.done = trio.Event()
        self._function = function
        self._arguments = arguments
        self._limiter = limiter
        self._chance = chance
        self._value: Any = None
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Call the function. A thread cannot be cancelled; it ends with its process, which stops here if killed."""
        process = current_process()
        with trio.CancelScope(shield=True):
            await trio.sleep(self._chance.uniform(*_HAND_OVER_S))
            slept_s = 0.0
            if process.alive:
                slept_s = self._call()
            await trio.sleep(slept_s + self._chance.uniform(*_HAND_OVER_S))
        self._limiter.release_on_behalf_of(self)
        if not process.alive:
            self._value, self._error = None, _killed(process)
        self.done.set()

    def _call(self) -> float:
        call = _Call()
        token = _call.set(call)
        try:
            self._value = self._function(*self._arguments)
        except BaseException as error:  # noqa: BLE001  # it is raised where the thread was started
            self._error = error
        finally:
            _call.reset(token)
        return call.slept_s

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


def _killed(process: Any) -> BaseException | None:
    try:
        process.check()
    except OSError as error:
        return error
    return None
