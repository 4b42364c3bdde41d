"""Calls that run as one step end as one call would. The pause grows during an outage, and ends with a success."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_redis.concurrency import Backoff, run_all

Call: TypeAlias = Callable[[], Awaitable[object]]


async def _raise(error: BaseException) -> None:
    raise error


async def test_results_come_in_the_order_of_the_calls(autojump_clock: MockClock) -> None:
    async def late(number: int) -> int:
        await trio.sleep(3 - number)
        return number

    assert await run_all([partial(late, number) for number in range(3)], 3) == [0, 1, 2]
    assert trio.current_time() == pytest.approx(3.0)
    assert await run_all([partial(late, 1)], 3) == [1]
    empty: list[int] = await run_all([], 3)
    assert empty == []


async def test_an_error_comes_alone_and_cancels_the_rest() -> None:
    error = ValueError("the first")
    calls: list[Call] = [trio.sleep_forever, partial(_raise, error), trio.sleep_forever]
    with pytest.raises(ValueError, match="the first") as caught:
        await run_all(calls, 3)
    assert caught.value is error


@pytest.mark.parametrize("calls", [1, 3])
async def test_a_cancel_comes_alone(calls: int) -> None:
    seen: list[BaseException] = []

    async def step() -> None:
        try:
            await run_all([trio.sleep_forever] * calls, 3)
        except BaseException as error:
            seen.append(error)
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [type(each) for each in seen] == [trio.Cancelled]


async def test_an_interruption_is_not_taken_for_a_cancel() -> None:
    calls: list[Call] = [trio.sleep_forever, partial(_raise, KeyboardInterrupt())]
    with pytest.raises(BaseExceptionGroup) as caught:
        await run_all(calls, 2)
    assert caught.value.split(KeyboardInterrupt)[0] is not None


async def test_only_so_many_run_at_once(autojump_clock: MockClock) -> None:
    running, most = 0, 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    await run_all([call] * 7, 3)
    assert most == 3
    assert trio.current_time() == pytest.approx(3.0)


async def test_a_pause_grows_to_its_bound_and_ends_with_a_success(autojump_clock: MockClock) -> None:
    pause = Backoff(0.2, 1.0)
    assert pause.remaining_s == 0
    for expected in (0.2, 0.4, 0.8, 1.0, 1.0):
        pause.failed("why")
        assert pause.pause_s == expected
        assert 0.8 * expected <= pause.remaining_s <= 1.2 * expected
        await trio.sleep(pause.remaining_s)
    assert pause.detail == "why"
    pause.succeeded()
    assert (pause.pause_s, pause.remaining_s) == (0, 0)
    pause.failed()
    assert pause.remaining_s <= 0.24


async def test_attempts_in_progress_when_it_began_do_not_prolong_it(autojump_clock: MockClock) -> None:
    pause = Backoff()
    pause.failed()
    before = pause.remaining_s
    pause.failed()
    pause.failed()
    assert pause.remaining_s == before
