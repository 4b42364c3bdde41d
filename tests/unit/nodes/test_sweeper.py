"""The leading sweeper, without its dependencies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import trio
import trio.testing

from avion_media.backends.redis import RedisFull
from avion_media.nodes.sweeper import _POLL_S, _Sweeper
from avion_media.process.runtime import Runtime
from trio_telemetry import get_logger


class OnFullRedis(_Sweeper):
    """Nothing can be written."""

    def __init__(self) -> None:
        self._runtime = cast("Runtime", SimpleNamespace(lifecycle=SimpleNamespace(accepting_tasks=True)))
        self._log = get_logger(path="sweeper")
        self.asked = 0

    async def _is_due(self) -> bool:
        self.asked += 1
        raise RedisFull


async def test_a_full_redis_does_not_end_the_leadership(autojump_clock: trio.testing.MockClock) -> None:
    sweeper = OnFullRedis()

    with trio.move_on_after(3.5 * _POLL_S) as lasting:
        await sweeper._work()

    assert lasting.cancelled_caught
    assert sweeper.asked == 4
