"""Calls that run as one step end as one call would."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from avion_media.common.concurrency import in_turn, results_of, run_all, take


async def _raise(error: BaseException) -> None:
    raise error


async def test_results_come_in_the_order_of_the_calls(autojump_clock: MockClock) -> None:
    async def late(number: int) -> int:
        await trio.sleep(3 - number)
        return number

    assert await results_of(*(partial(late, number) for number in range(3))) == [0, 1, 2]


async def test_an_error_comes_alone_and_cancels_the_rest() -> None:
    error = ValueError("the first")
    with pytest.raises(ValueError, match="the first") as caught:
        await run_all([trio.sleep_forever, partial(_raise, error), trio.sleep_forever])
    assert caught.value is error


@pytest.mark.parametrize("calls", [1, 3])
async def test_a_cancel_comes_alone(calls: int) -> None:
    seen: list[BaseException] = []

    async def step() -> None:
        try:
            await run_all([trio.sleep_forever] * calls)
        except BaseException as error:
            seen.append(error)
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [type(each) for each in seen] == [trio.Cancelled]


async def test_an_interruption_is_not_taken_for_a_cancel() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await run_all([trio.sleep_forever, partial(_raise, KeyboardInterrupt())])
    assert caught.value.split(KeyboardInterrupt)[0] is not None


async def test_only_so_many_run_at_once(autojump_clock: MockClock) -> None:
    running, most = 0, 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    await in_turn([call] * 7, 3)
    assert most == 3
    assert trio.current_time() == pytest.approx(3.0)


async def test_a_free_token_is_taken_before_any_other_task_runs() -> None:
    limiter = trio.CapacityLimiter(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await take(limiter)  # no checkpoint, so the cancel is not seen
    assert not scope.cancelled_caught
    assert limiter.available_tokens == 0


async def test_a_token_that_is_not_free_is_waited_for_and_a_cancel_takes_none() -> None:
    limiter = trio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("another")
    taken: list[str] = []

    async def wait(name: str) -> None:
        await take(limiter)
        taken.append(name)

    async with trio.open_nursery() as cancelled:
        cancelled.start_soon(wait, "cancelled")
        await wait_all_tasks_blocked()
        cancelled.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "patient")
        await wait_all_tasks_blocked()
        assert not taken
        limiter.release_on_behalf_of("another")
    assert taken == ["patient"]
