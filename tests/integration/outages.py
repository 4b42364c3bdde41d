"""Calls to servers that come and go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from avion_media.common.errors import Unavailable

T = TypeVar("T")


async def persistently(call: Callable[[], Awaitable[T]], within_s: float = 40.0) -> T:
    """The call's result, through as many outages as it takes: as every caller of the queue does."""
    with trio.fail_after(within_s):
        while True:
            try:
                return await call()
            except Unavailable:
                await trio.sleep(0.02)
