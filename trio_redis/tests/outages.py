"""Calls to servers that come and go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from trio_redis import RedisUnavailable

T = TypeVar("T")


async def persistently(call: Callable[[], Awaitable[T]], within_s: float = 40.0) -> T:
    """The call's result, through as many outages as it takes."""
    with trio.fail_after(within_s):
        while True:
            try:
                return await call()
            except RedisUnavailable:
                await trio.sleep(0.02)


async def until(condition: Callable[[], bool], within_s: float = 40.0) -> None:
    """Until other processes have come to it."""
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - they tell nobody
            await trio.sleep(0.05)
