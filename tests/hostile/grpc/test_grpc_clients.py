"""Clients that take their time, come in numbers or never leave; a good one is served all along."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network

import pytest
import trio
from h2.errors import ErrorCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame

from tests.interop.serving import EchoServer, echo_server
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code, GrpcLimits
from trio_grpc.lifecycle import ConnectionLife, Happening
from trio_grpc.net import peer_at
from trio_grpc.tests.raw_client import RawClient, data, message, raw_client, request_headers, window_update

HELLO = wire.EchoRequest(text="hello")
HANG = wire.EchoRequest(text="on", count=1, behaviour="hang")
REPEAT = request_headers(_path="/avion.test.Echo/Repeat")
MANY = 3000


@asynccontextmanager
async def served_all_along(limits: GrpcLimits | None = None) -> AsyncIterator[EchoServer]:
    """A server, and a good client whose calls must all be answered: before, meanwhile and after."""
    answered = 0

    async def call_on(port: int) -> None:
        nonlocal answered
        async with raw_client(port) as good:
            for stream_id in range(1, 2**31, 2):
                await good.send(good.call(stream_id, HELLO))
                await good.read_until(lambda seen, stream_id=stream_id: seen.status(stream_id) == "0")  # type: ignore[misc]
                answered += 1
                good.frames.clear()
                await trio.sleep(0.02)

    async with echo_server(limits) as server, trio.open_nursery() as nursery:
        nursery.start_soon(call_on, server.port)
        yield server
        before = answered
        while answered < before + 2:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert not server.errors


async def _until_connections(server: EchoServer, count: int) -> None:
    while server.server.connections > count:  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.01)


async def _hold(port: int, local_address: str) -> None:
    """Connect, and never make a call."""
    async with raw_client(port, local_address=local_address) as client:
        await client.read_to_end()


async def test_one_peer_cannot_take_all_connections() -> None:
    async with served_all_along(GrpcLimits(max_connections_per_peer=4)) as server, AsyncExitStack() as held:
        while server.server.connections < 1:  # noqa: ASYNC110 - the good client's
            await trio.sleep(0.01)
        for _ in range(3):
            await held.enter_async_context(raw_client(server.port))
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as fifth:
            assert await fifth.receive_some() == b""
        await held.aclose()
        await _until_connections(server, 1)
        async with raw_client(server.port) as again:
            await again.send(again.call(1, HELLO))
            await again.read_until(lambda seen: seen.status(1) == "0")


async def test_the_connections_of_a_proxy_are_those_of_many_peers() -> None:
    limits = GrpcLimits(max_connections_per_peer=2, max_calls_per_peer=1, proxies=(ip_network("127.0.0.0/8"),))
    async with served_all_along(limits) as server, AsyncExitStack() as held:
        for _ in range(4):
            client = await held.enter_async_context(raw_client(server.port))
            await client.send(client.call(1, HELLO))
            await client.read_until(lambda seen: seen.status(1) == "0")


async def test_who_holds_connections_without_calls_makes_room_for_newcomers() -> None:
    async with served_all_along(GrpcLimits(max_connections=20)) as server, trio.open_nursery() as nursery:
        for number in range(17):
            nursery.start_soon(_hold, server.port, f"127.0.1.{number}")
        while server.server.connections < 18:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        for number in range(10):
            async with raw_client(server.port, local_address=f"127.0.2.{number}") as newcomer:
                await newcomer.send(newcomer.call(1, HELLO))
                await newcomer.read_until(lambda seen: seen.status(1) == "0")
        nursery.cancel_scope.cancel()


async def test_connections_that_come_and_go_leave_nothing() -> None:
    async with served_all_along() as server:
        for number in range(200):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[: number % 25])
        await _until_connections(server, 1)


async def test_streams_of_an_old_connection_go_on() -> None:
    async with echo_server(GrpcLimits(max_age_s=0.1)) as server, raw_client(server.port) as client:
        await client.send(client.call(1, HANG, REPEAT))
        await client.read_until(lambda seen: len(seen.goaways) == 2)
        assert client.status(1) is None
        server.echo.released.set()
        await client.read_until(lambda seen: seen.status(1) == "0")
        await client.read_to_end()


async def test_streams_of_an_old_connection_end_at_a_message_after_a_while() -> None:
    limits = GrpcLimits(max_age_s=0.1, max_age_grace_s=0.1)
    async with echo_server(limits) as server, raw_client(server.port) as client:
        await client.send(client.call(1, HANG, REPEAT))
        await client.read_until(lambda seen: seen.status(1) == str(int(Code.UNAVAILABLE)))
        assert client.goaways
        await client.read_to_end()


def test_ages_differ_so_that_clients_do_not_come_back_all_at_once() -> None:
    def retired_at(now: float) -> int:
        return sum(Happening.RETIRED in life.due(now, 1) for life in lives)

    lives = [ConnectionLife(GrpcLimits(max_age_s=1000.0, header_timeout_s=math.inf), 0.0) for _ in range(100)]
    assert retired_at(899.9) == 0
    assert 0 < retired_at(1000.0) < 100
    assert retired_at(1100.1) == 100
    lives = [ConnectionLife(GrpcLimits(header_timeout_s=math.inf), 0.0)]
    assert retired_at(1e9) == 0


async def test_a_slow_upload_of_many_frames_is_no_unfinished_frame() -> None:
    """Every piece ends within a frame, and each frame comes in time: the client does nothing wrong."""
    limits = GrpcLimits(header_timeout_s=0.5, request_timeout_s=20.0)
    async with served_all_along(limits) as server, raw_client(server.port) as client:
        payload = wire.EchoRequest(text="slow", body=bytes(2000))
        framed = message(payload)
        frames = b"".join(data(1, framed[at : at + 100]).serialize() for at in range(0, len(framed), 100))
        frames += data(1, b"", end=True).serialize()
        await client.send(client.head(1))
        for at in range(0, len(frames), 107):
            await client.send(frames[at : at + 107])
            await trio.sleep(0.05)
        await client.read_until(lambda seen: seen.status(1) == "0")


async def test_a_header_block_that_drips_is_given_up() -> None:
    async with served_all_along(GrpcLimits(header_timeout_s=0.3)) as server, raw_client(server.port) as client:
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                await client.send(HeadersFrame(1, client.head(1).data))
                while True:
                    await client.send(ContinuationFrame(1, b"\x00\x01a\x01b"))
                    await trio.sleep(0.02)

            nursery.start_soon(drip)
            await client.read_to_end()
            nursery.cancel_scope.cancel()
        assert [frame.error_code for frame in client.goaways] == [ErrorCodes.ENHANCE_YOUR_CALM]


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(
            [HeadersFrame(number, b"", flags=["END_HEADERS"]) for number in range(1, 2 * MANY, 2)], id="HEADERS"
        ),
        pytest.param([HeadersFrame(1, b"\x83"), *[ContinuationFrame(1, b"")] * MANY], id="CONTINUATION"),
        pytest.param([data(1, b"")] * MANY, id="DATA"),
    ],
)
async def test_floods_of_empty_frames_end_the_connection(flood: list[HeadersFrame | ContinuationFrame]) -> None:
    async with served_all_along() as server, raw_client(server.port) as client, trio.open_nursery() as nursery:
        if flood[0].stream_id == 1 and flood[0] == flood[-1]:
            await client.send(client.head(1))

        async def send() -> None:
            for at in range(0, len(flood), 100):
                await client.send(*flood[at : at + 100])

        nursery.start_soon(send)
        await client.read_to_end()
        nursery.cancel_scope.cancel()
        assert client.goaways


async def test_a_flood_of_window_updates_for_a_call_is_calmed() -> None:
    async with served_all_along() as server, raw_client(server.port, {0x4: 0}) as client:
        await client.send(client.call(1, wire.EchoRequest(response_bytes=100_000)))
        async with trio.open_nursery() as nursery:

            async def flood(client: RawClient = client) -> None:
                for _ in range(MANY // 100):
                    await client.send(*[window_update(1, 1)] * 100)

            nursery.start_soon(flood)
            await client.read_to_end()
            nursery.cancel_scope.cancel()
        # Each lets one byte out, for which credit is earned: it ends by the bound on the call, or is calmed.
        assert client.goaways


def test_connections_are_counted_by_address_and_by_ipv6_network() -> None:
    assert peer_at("10.0.0.1") != peer_at("10.0.0.2")
    assert peer_at("::ffff:10.0.0.1") == peer_at("10.0.0.1")
    assert peer_at("2001:db8::1") == peer_at("2001:db8::ffff:1:2:3")
    assert peer_at("2001:db8:0:1::1") != peer_at("2001:db8::1")
    assert peer_at("fe80::1%eth0") == peer_at("fe80::2")
