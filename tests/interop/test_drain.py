"""Draining: no call is lost, none begins too late, and it ends."""

from __future__ import annotations

import threading

import grpc
import pytest
import trio
import trio.testing
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, PingFrame

from tests.interop.methods import TIMEOUT_S, repeat, say
from tests.interop.serving import echo_server, in_thread, with_grpcio
from tests.interop.wire import echo_pb2 as wire
from tests.service.published import retry_delay_s
from trio_grpc import Code, GrpcServer
from trio_grpc.tests.raw_client import RawClient, raw_client, request_headers

HANG = wire.EchoRequest(behaviour="hang")
HELLO = wire.EchoRequest(text="hello")
_LAST = 2**31 - 1


def _drain_ping(client: RawClient) -> PingFrame:
    return next(frame for frame in client.frames if isinstance(frame, PingFrame))


async def test_goaway_comes_twice_with_a_ping_round_trip_between() -> None:
    async with echo_server() as server, raw_client(server.port) as client, trio.open_nursery() as nursery:
        await client.send(client.call(1, HANG))
        await server.echo.until(lambda echo: echo.entered == 1)
        nursery.start_soon(server.server.drain, 10)
        await client.read_until(lambda seen: seen.goaways and seen.of(PingFrame))
        assert [frame.last_stream_id for frame in client.goaways] == [_LAST]
        # A call that crossed the server GOAWAY on the wire is served.
        await client.send(client.call(3, HELLO))
        await client.read_until(lambda seen: seen.status(3) == "0")
        await client.send(PingFrame(0, _drain_ping(client).opaque_data, flags=["ACK"]))
        await client.read_until(lambda seen: len(seen.goaways) == 2)
        assert client.goaways[1].last_stream_id == 3
        assert client.goaways[1].error_code == ErrorCodes.NO_ERROR
        # A later one is not, and may be repeated elsewhere.
        await client.send(client.call(5, HELLO))
        await client.read_until(lambda seen: seen.resets() == {5: ErrorCodes.REFUSED_STREAM})
        server.echo.released.set()
        await client.read_until(lambda seen: seen.status(1) == "0")
        await client.read_to_end()


async def test_a_client_that_answers_no_ping_does_not_hold_up_the_drain() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read_to_end)
            with trio.fail_after(20):
                await server.server.drain(60)
        assert [frame.last_stream_id for frame in client.goaways] == [_LAST, 0]


async def test_a_stream_ends_at_a_message_boundary() -> None:
    async with echo_server() as server, raw_client(server.port, {0x4: 2**20}) as client:
        path = request_headers(_path="/avion.test.Echo/Repeat")
        await client.send(client.call(1, wire.EchoRequest(text="on", response_bytes=1000), path))
        await client.read_until(lambda seen: len(seen.body(1)) > 3000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.drain, 10)
            await client.read_until(lambda seen: seen.status(1) == str(int(Code.UNAVAILABLE)))
            body = client.body(1)
            while body:
                length = int.from_bytes(body[1:5], "big")
                assert len(body) >= 5 + length
                wire.EchoResponse.FromString(body[5 : 5 + length])
                body = body[5 + length :]
            await client.read_to_end()


async def test_a_drain_waits_for_calls_and_refuses_new_connections() -> None:
    async with echo_server() as server:
        results: list[str] = []

        async def call() -> None:
            response = await with_grpcio(
                server, lambda channel: say(channel)(wire.EchoRequest(text="late", behaviour="hang"), timeout=TIMEOUT_S)
            )
            results.append(response.text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await server.echo.until(lambda echo: echo.entered == 1)
            nursery.start_soon(server.server.drain, 10)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError):
                await trio.open_tcp_stream("127.0.0.1", server.port)
            assert server.server.calls == 1
            server.echo.released.set()
        assert results == ["late"]
        assert server.server.connections == 0


async def test_what_does_not_end_within_the_grace_is_ended_and_the_client_learns_why() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HANG))
        await client.send(client.head(3, request_headers(_path="/avion.test.Echo/Collect")))
        await server.echo.until(lambda echo: echo.entered == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.drain, 2.5)
            await client.read_to_end()
        assert client.status(1) == client.status(3) == str(int(Code.UNAVAILABLE))
        assert server.echo.cancelled == 1
        assert server.codes() == [Code.UNAVAILABLE] * 2


async def test_serve_returns_when_everything_is_drained() -> None:
    server = GrpcServer([])
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, listeners)
            await server.drain(1)


async def test_under_load_no_call_of_a_real_client_is_lost() -> None:
    """The server is drained while calls go on; only the last may fail, and in a way that may be repeated."""
    async with echo_server() as server:
        stop = threading.Event()
        codes: list[grpc.StatusCode] = []

        def client(channel: grpc.Channel) -> int:
            done = 0
            while not stop.is_set():
                call = say(channel).future(wire.EchoRequest(text="x"), timeout=TIMEOUT_S)
                codes.append(call.code())
                done += 1
                if call.code() is not grpc.StatusCode.OK:
                    break
            return done

        async with trio.open_nursery() as nursery:
            nursery.start_soon(with_grpcio, server, client)
            await server.until_ended(50)
            with trio.fail_after(10):
                await server.server.drain(5)
            stop.set()
        assert codes[:-1] == [grpc.StatusCode.OK] * (len(codes) - 1)
        assert codes[-1] in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
        # Every call that a handler began was answered.
        assert set(server.codes()) == {Code.OK}


async def test_a_client_that_leaves_gets_its_answers_server() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HANG), GoAwayFrame(0, last_stream_id=0, error_code=0))
        await server.echo.until(lambda echo: echo.entered == 1)
        server.echo.released.set()
        await client.read_until(lambda seen: seen.status(1) == "0")
        await client.send(PingFrame(0, _drain_ping(client).opaque_data, flags=["ACK"]))
        await client.read_to_end()


async def test_an_endless_stream_of_a_real_client_ends_with_unavailable_and_a_delay() -> None:
    async with echo_server() as server:

        def client() -> tuple[grpc.StatusCode, float]:
            with grpc.insecure_channel(server.address) as channel:
                stream = repeat(channel)(wire.EchoRequest(text="on"), timeout=TIMEOUT_S)
                with pytest.raises(grpc.RpcError) as ended:
                    for _ in stream:
                        pass
                return stream.code(), retry_delay_s(ended.value)

        async with trio.open_nursery() as nursery:
            told: list[tuple[grpc.StatusCode, float]] = []

            async def call() -> None:
                told.append(await in_thread(client))

            nursery.start_soon(call)
            await server.echo.until(lambda echo: echo.sent > 20)
            await server.server.drain(10)
        assert told == [(grpc.StatusCode.UNAVAILABLE, 1.0)]
