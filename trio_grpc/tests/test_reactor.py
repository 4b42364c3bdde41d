"""Functions that are called when sockets are ready."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
import trio.testing

from trio_grpc.net.reactor import GONE, READ, WRITE, Reactor


@contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


@asynccontextmanager
async def _running() -> AsyncIterator[Reactor]:
    reactor = Reactor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        yield reactor
        nursery.cancel_scope.cancel()


async def test_a_function_is_called_as_long_as_there_is_something_to_read() -> None:
    got = []
    async with _running() as reactor:
        with _pair() as (near, far):

            def read(events: int) -> None:
                got.append((events, near.recv(1)))

            reactor.watch(near.fileno(), read)
            far.send(b"ab")
            await trio.testing.wait_all_tasks_blocked()
            assert got == [(READ, b"a"), (READ, b"b")]
            reactor.change(near.fileno(), WRITE)
            reactor.change(near.fileno(), 0)
            far.send(b"c")
            await trio.testing.wait_all_tasks_blocked()
            assert len(got) == 2
            reactor.change(near.fileno(), READ)
            await trio.testing.wait_all_tasks_blocked()
            assert got[2:] == [(READ, b"c")]


async def _called_of_two_that_are_ready(act: Callable[[Reactor, int], None]) -> int:
    """How many of two functions are called, if the first does this with the descriptor of the other."""
    called = []
    async with _running() as reactor:
        with _pair() as (one, one_far), _pair() as (other, other_far):

            def first(this: socket.socket, others: socket.socket) -> None:
                called.append(this)
                this.recv(1)
                act(reactor, others.fileno())

            reactor.watch(one.fileno(), lambda _: first(one, other))
            reactor.watch(other.fileno(), lambda _: first(other, one))
            one_far.send(b"a")
            other_far.send(b"a")
            await trio.testing.wait_all_tasks_blocked()
            reactor.forget(one.fileno())
            reactor.forget(other.fileno())
    return len(called)


async def test_what_is_forgotten_in_the_same_turn_is_not_called() -> None:
    def forget(reactor: Reactor, fd: int) -> None:
        reactor.forget(fd)
        reactor.forget(fd)

    assert await _called_of_two_that_are_ready(forget) == 1


async def test_an_event_for_a_descriptor_that_was_closed_does_not_reach_the_next_one_of_its_number() -> None:
    reached: list[int] = []
    with _pair() as (third, _third_far):

        def replace(reactor: Reactor, fd: int) -> None:
            reactor.forget(fd)
            os.dup2(third.fileno(), fd)
            reactor.watch(fd, reached.append)

        assert await _called_of_two_that_are_ready(replace) == 1
    assert not reached


async def test_the_end_of_the_other_side_is_reported_even_if_nothing_is_waited_for() -> None:
    seen = []
    async with _running() as reactor:
        with _pair() as (near, far):

            def end(events: int) -> None:
                seen.append(events & GONE)
                reactor.forget(near.fileno())
                near.close()

            reactor.watch(near.fileno(), end, 0)
            far.close()
            await trio.testing.wait_all_tasks_blocked()
    [events] = seen
    assert events


async def test_later_functions_leave_each_other_and_sockets_their_turns() -> None:
    order = []
    async with _running() as reactor:
        with _pair() as (near, far):

            def go_on(name: str, left: int) -> None:
                order.append(name)
                if left:
                    reactor.later(lambda: go_on(name, left - 1))

            def read(_events: int) -> None:
                near.recv(1)
                if not order:
                    reactor.later(lambda: go_on("a", 2))
                    reactor.later(lambda: go_on("b", 2))
                    far.send(b"x")
                order.append("read")

            reactor.watch(near.fileno(), read)
            far.send(b"x")
            await trio.testing.wait_all_tasks_blocked()
    assert order == ["read", "a", "read", "b", "a", "b", "a", "b"]


async def test_a_socket_that_is_always_ready_leaves_other_tasks_their_turns() -> None:
    calls = 0

    def leave_it(_events: int) -> None:
        nonlocal calls
        calls += 1

    with _pair() as (ours, theirs):
        theirs.send(b"x")
        async with _running() as reactor:
            reactor.watch(ours.fileno(), leave_it)
            for turn in range(1, 20):
                await trio.lowlevel.checkpoint()
                assert calls <= turn
            assert calls > 1


async def test_after_its_end_nothing_is_called_and_forgetting_is_harmless() -> None:
    called: list[int] = []
    with _pair() as (near, far):
        async with _running() as reactor:
            reactor.watch(near.fileno(), called.append)
        far.send(b"x")
        reactor.forget(near.fileno())
    assert called == []
