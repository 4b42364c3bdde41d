"""A token of a limiter that is free costs no checkpoint."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from avion_media.common.concurrency import take


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
