"""Admission: slots, memory, order, and cancels."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sandbox import Admission, BudgetTooSmall


class _Visitors:
    """Jobs that enter, wait to be let go, and leave. ``inside`` is in the order of admission."""

    def __init__(self, admission: Admission, nursery: trio.Nursery) -> None:
        self.inside: list[str] = []
        self._admission = admission
        self._nursery = nursery
        self._let_go: dict[str, trio.Event] = {}
        self._scopes: dict[str, trio.CancelScope] = {}

    async def send(self, name: str, memory_bytes: int) -> None:
        self._let_go[name] = trio.Event()
        self._scopes[name] = trio.CancelScope()
        self._nursery.start_soon(self._visit, name, memory_bytes)
        await wait_all_tasks_blocked()

    async def let_go(self, name: str) -> None:
        self._let_go[name].set()
        await wait_all_tasks_blocked()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._scopes[name].cancel()
        await wait_all_tasks_blocked()

    async def _visit(self, name: str, memory_bytes: int) -> None:
        with self._scopes[name]:
            async with self._admission.admitted(memory_bytes):
                self.inside.append(name)
                try:
                    await self._let_go[name].wait()
                finally:
                    self.inside.remove(name)


async def test_slots_are_given_in_order() -> None:
    async with trio.open_nursery() as nursery:
        visitors = _Visitors(Admission(2, 100), nursery)
        for name in "abcd":
            await visitors.send(name, 1)
        assert visitors.inside == ["a", "b"]
        await visitors.let_go("a")
        assert visitors.inside == ["b", "c"]
        await visitors.let_go("b")
        assert visitors.inside == ["c", "d"]
        nursery.cancel_scope.cancel()


async def test_memory_is_never_promised_twice_and_nobody_overtakes() -> None:
    admission = Admission(10, 100)
    async with trio.open_nursery() as nursery:
        visitors = _Visitors(admission, nursery)
        await visitors.send("most", 70)
        await visitors.send("large", 60)
        await visitors.send("small", 10)
        assert visitors.inside == ["most"]  # small would fit, but large was first
        assert (admission.used_bytes, admission.waiting) == (70, 2)
        await visitors.let_go("most")
        assert set(visitors.inside) == {"large", "small"}
        nursery.cancel_scope.cancel()
    assert (admission.used_bytes, admission.waiting) == (0, 0)


async def test_who_gives_up_waiting_lets_the_next_in() -> None:
    async with trio.open_nursery() as nursery:
        visitors = _Visitors(Admission(10, 100), nursery)
        await visitors.send("most", 70)
        await visitors.send("large", 60)
        await visitors.send("small", 10)
        await visitors.cancel("large")
        assert set(visitors.inside) == {"most", "small"}
        nursery.cancel_scope.cancel()


async def test_a_cancel_in_the_tick_of_admission_gives_everything_back() -> None:
    admission = Admission(1, 100)
    async with trio.open_nursery() as nursery:
        visitors = _Visitors(admission, nursery)
        await visitors.send("first", 100)
        await visitors.send("second", 100)
        await visitors.send("third", 100)
        await visitors.cancel("first", "second")
        assert visitors.inside == ["third"]
        nursery.cancel_scope.cancel()
    assert admission.used_bytes == 0


async def test_what_never_fits_is_at_once_a_fault_of_the_service_and_not_of_the_file() -> None:
    with pytest.raises(BudgetTooSmall, match="a job needs 101 bytes, and the budget is 100"):
        async with Admission(1, 100).admitted(101):
            pass


@pytest.mark.parametrize(("slots", "budget_bytes"), [(0, 1), (1, 0)])
def test_a_sandbox_without_room_is_a_mistake(slots: int, budget_bytes: int) -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        Admission(slots, budget_bytes)
