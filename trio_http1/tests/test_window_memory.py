"""One peer leaves memory for the others, and who waits gets it in turn."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_http1 import WindowMemory

KIB = 1 << 10
MIB = 1 << 20


async def test_one_peer_can_have_half_and_windows_get_small_before_that() -> None:
    memory = WindowMemory(8 * MIB)
    taken = []
    with trio.move_on_after(0):
        while True:
            taken.append(await memory.take("greedy", MIB))
    assert sum(taken) == 4 * MIB
    assert taken == [MIB] * 4 or set(taken) == {MIB, 64 * KIB}
    assert await memory.take("other", MIB) == MIB


async def test_who_waits_for_memory_gets_it_in_turn_and_a_cancel_loses_none() -> None:
    memory = WindowMemory(2 * MIB)
    for _ in range(16):
        await memory.take("peer", 64 * KIB)
    served: list[str] = []
    scope = trio.CancelScope()

    async def wait(name: str) -> None:
        assert await memory.take("peer", 64 * KIB) == 64 * KIB
        served.append(name)

    async def cancelled() -> None:
        with scope:
            await wait("cancelled")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, "first")
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, "second")
        await wait_all_tasks_blocked()
        scope.cancel()
        memory.give("peer", 64 * KIB)  # granted to the task whose cancel is already on its way
        await wait_all_tasks_blocked()
        memory.give("peer", 64 * KIB)
    assert served == ["first", "second"]
    assert memory.held_bytes == MIB
