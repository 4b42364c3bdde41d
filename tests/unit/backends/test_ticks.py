"""What a process sends once in a period, it sends at the same moments."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from avion_media.backends.redis import Redis

PERIOD_S = 5.0


async def test_loops_of_one_process_wake_together(autojump_clock: MockClock) -> None:
    redis, woken = Redis("redis://127.0.0.1:1"), []

    async def loop(began_s: float, period_s: float) -> None:
        await trio.sleep(began_s)
        for _ in range(4):
            await trio.sleep(redis.next_tick_s(period_s))
            woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for began_s in (0.0, 1.3, 4.9):
            nursery.start_soon(loop, began_s, PERIOD_S)
        nursery.start_soon(loop, 2.2, 2 * PERIOD_S)
    first = min(woken)
    assert {round((at - first) % PERIOD_S, 6) % PERIOD_S for at in woken} == {0.0}
    assert len({round(at, 3) for at in woken}) < len(woken) / 2


async def test_a_tick_that_is_about_to_come_is_left_out(autojump_clock: MockClock) -> None:
    """A read that ends a moment too early is not repeated for that moment."""
    redis = Redis("redis://127.0.0.1:1")
    await trio.sleep(redis.next_tick_s(PERIOD_S) - 0.001)
    assert redis.next_tick_s(PERIOD_S) == pytest.approx(PERIOD_S + 0.001)
