"""Simulated sockets answer the questions of this file as those of Linux do: each test runs on both."""

from __future__ import annotations

import errno
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trustme

from trio_simulation import Simulation, run
from trio_simulation.network.ends import CAPACITY_BYTES

Question = Callable[[], Awaitable[object]]
Ask = Callable[[Question], None]


def _on_linux(question: Question) -> None:
    trio.run(question)


def _simulated(question: Question) -> None:
    async def scenario(simulation: Simulation) -> None:
        await simulation.node("machine").run(question)

    run(scenario, seed=1)


@pytest.fixture(params=[_on_linux, _simulated], ids=["linux", "simulated"])
def ask(request: pytest.FixtureRequest) -> Ask:
    asked: Ask = request.param
    return asked


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        listener,
        await trio.open_tcp_stream(*listener.socket.getsockname()[:2]) as one,
        await listener.accept() as other,
    ):
        yield one, other


def test_bytes_arrive_in_order(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            await one.send_all(b"a" * 10)
            await one.send_all(b"b" * 10)
            received = b""
            while len(received) < 20:
                received += await other.receive_some(7)
            assert received == b"a" * 10 + b"b" * 10

    ask(question)


def test_an_end_is_read_after_the_data_and_the_other_way_stays_open(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            await one.send_all(b"question")
            await one.send_eof()
            with pytest.raises(trio.ClosedResourceError):
                await one.send_all(b"more")
            assert await other.receive_some() == b"question"
            assert await other.receive_some() == b""
            assert await other.receive_some() == b""
            await other.send_all(b"answer")
            assert await one.receive_some() == b"answer"

    ask(question)


def test_nobody_listens(ask: Ask) -> None:
    async def question() -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        with trio.socket.socket() as sock:
            with pytest.raises(ConnectionRefusedError) as refused:
                await sock.connect(("127.0.0.1", port))
            assert refused.value.errno == errno.ECONNREFUSED
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port)

    ask(question)


def test_a_close_with_unread_data_resets(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            await one.send_all(b"unread")
            await other.socket.recv(1, trio.socket.MSG_PEEK)
            await other.aclose()
            with pytest.raises(OSError) as reset:
                await one.socket.recv(1)
            assert reset.value.errno == errno.ECONNRESET
            assert await one.socket.recv(1) == b""
            with pytest.raises(BrokenPipeError):
                await one.socket.send(b"x")

    ask(question)


def test_what_came_before_a_reset_is_read_before_it(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            await other.send_all(b"before")
            await one.send_all(b"unread")
            await other.socket.recv(1, trio.socket.MSG_PEEK)
            await other.aclose()
            await trio.sleep(0.05)  # the reset must have arrived; nothing reports that before a call
            assert await one.socket.recv(100) == b"before"
            with pytest.raises(OSError) as reset:
                await one.socket.recv(1)
            assert reset.value.errno == errno.ECONNRESET

    ask(question)


def test_sending_to_a_closed_peer_fails_at_the_second_attempt(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            await other.aclose()
            assert await one.receive_some() == b""
            await one.send_all(b"first")
            await trio.sleep(0.05)  # the reset must have arrived
            with pytest.raises(trio.BrokenResourceError):
                await one.send_all(b"second")

    ask(question)


def test_a_sender_waits_until_its_peer_reads(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            sent = 0
            with trio.move_on_after(0.2):
                while True:
                    sent += await one.socket.send(b"x" * 65536)
            assert CAPACITY_BYTES / 10 < sent < CAPACITY_BYTES * 100
            received = 0
            while received < sent:
                received += len(await other.receive_some())
            await one.send_all(b"y")
            assert await other.receive_some() == b"y"

    ask(question)


def test_closing_wakes_the_tasks_that_wait(ask: Ask) -> None:
    async def question() -> None:
        async def receive(stream: trio.SocketStream) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        async with connected() as (one, _other), trio.open_nursery() as nursery:
            nursery.start_soon(receive, one)
            await trio.testing.wait_all_tasks_blocked()
            await one.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await one.receive_some()

    ask(question)


def test_a_cancelled_connect_closes_its_socket(ask: Ask) -> None:
    async def question() -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        with trio.socket.socket() as sock, trio.CancelScope() as scope:
            scope.cancel()
            await sock.connect(listener.socket.getsockname())
        assert sock.fileno() == -1
        await listener.aclose()

    ask(question)


def test_addresses_and_options(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            assert one.socket.getpeername() == other.socket.getsockname()
            assert one.socket.getsockname() == other.socket.getpeername()
            assert one.socket.getsockname()[0] == "127.0.0.1"
            assert one.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_ERROR) == 0
            assert one.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_ACCEPTCONN) == 0
            assert not one.socket.is_readable()
            await other.send_all(b"x")
            assert await one.socket.recv_into(bytearray(5)) == 1

    ask(question)


def test_two_cannot_listen_at_one_address(ask: Ask) -> None:
    async def question() -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        with pytest.raises(OSError) as in_use:
            await trio.open_tcp_listeners(listener.socket.getsockname()[1], host="127.0.0.1")
        assert in_use.value.errno == errno.EADDRINUSE
        await listener.aclose()

    ask(question)


def test_tls(ask: Ask) -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)

    async def question() -> None:
        async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
            await stream.send_all(await stream.receive_some())

        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_ssl_over_tcp, answer, 0, server, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            port = listener.transport_listener.socket.getsockname()[1]
            stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=client)
            async with stream:
                await stream.send_all(b"secret")
                assert await stream.receive_some() == b"secret"
            nursery.cancel_scope.cancel()

    ask(question)
