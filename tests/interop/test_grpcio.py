"""grpcio's synchronous client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import grpc
import pytest
import trio
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from tests.interop.methods import SERVICE, TIMEOUT_S, chat, collect, repeat, say
from tests.interop.serving import echo_server, in_thread, with_grpcio
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code, GrpcLimits


def _failure(call: Any, *arguments: Any, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments, **{"timeout": TIMEOUT_S, **options})
    return raised.value


async def test_a_unary_call_with_metadata_peer_and_deadline() -> None:
    def client(channel: grpc.Channel) -> wire.EchoResponse:
        metadata = (("traceparent", "00-1-2-03"), ("twice", "a"), ("twice", "b"), ("raw-bin", b"\xff\x00"))
        return say(channel)(  # type: ignore[no-any-return]
            wire.EchoRequest(text="hello"), timeout=TIMEOUT_S, metadata=metadata
        )

    async with echo_server() as server:
        response = await with_grpcio(server, client)
        assert response.text == "hello"
        assert response.seen["traceparent"] == "00-1-2-03"
        assert response.seen["twice"] == "b"  # Echo has the last; tests/interop/test_metadata.py has both
        assert response.seen["raw-bin"] == repr(b"\xff\x00")
        assert response.seen["peer"].startswith("127.0.0.1:")
        assert 0 < float(response.seen["remaining_s"]) <= TIMEOUT_S
        assert response.seen["certificate"] == "None"
        assert server.codes() == [Code.OK]
        assert server.ended[0].method == f"/{SERVICE}/Say"
        assert server.ended[0].duration_s >= 0


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_384, 65_535, 65_536, 1 << 20, (4 << 20) - 2000])
async def test_messages_of_many_sizes_both_ways(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    def client(channel: grpc.Channel) -> bytes:
        response = say(channel)(wire.EchoRequest(body=body), timeout=TIMEOUT_S)
        return bytes(response.body)

    async with echo_server() as server:
        assert await with_grpcio(server, client) == body


async def test_a_message_beyond_the_limit_is_refused() -> None:
    async with echo_server(GrpcLimits(max_message_bytes=1 << 20)) as server:
        error = await with_grpcio(server, lambda channel: _failure(say(channel), wire.EchoRequest(body=bytes(2 << 20))))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        response = await with_grpcio(server, lambda channel: say(channel)(wire.EchoRequest(text="on")))
        assert response.text == "on"


async def test_an_error_with_details_arrives_as_it_was_raised() -> None:
    async with echo_server() as server:
        error = await with_grpcio(server, lambda channel: _failure(say(channel), wire.EchoRequest(behaviour="refuse")))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "50 % of «it» is bad\n"
        status = rpc_status.from_call(error)
        assert status is not None
        detail = BadRequest()
        assert status.details[0].Unpack(detail)
        assert detail.field_violations[0].field == "text"


async def test_an_exception_known_to_the_application_is_mapped() -> None:
    async with echo_server() as server:
        error = await with_grpcio(server, lambda channel: _failure(say(channel), wire.EchoRequest(behaviour="mapped")))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "mapped by the application")
        assert not server.errors


@pytest.mark.parametrize("behaviour", ["fail", "fail in group"])
async def test_an_unforeseen_exception_tells_the_client_an_id_and_nothing_else(behaviour: str) -> None:
    async with echo_server() as server:
        error = await with_grpcio(server, lambda channel: _failure(say(channel), wire.EchoRequest(behaviour=behaviour)))
        error_id, method, exception = server.errors[0]
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, f"internal error {error_id}")
        assert method == f"/{SERVICE}/Say"
        assert isinstance(exception, ValueError | ExceptionGroup)


async def test_an_error_after_messages_comes_after_them() -> None:
    def client(channel: grpc.Channel) -> tuple[list[str], grpc.StatusCode]:
        stream = repeat(channel)(wire.EchoRequest(text="r", count=3, behaviour="refuse"), timeout=TIMEOUT_S)
        texts: list[str] = []
        with pytest.raises(grpc.RpcError):
            texts.extend(response.text for response in stream)
        return texts, stream.code()

    async with echo_server() as server:
        texts, code = await with_grpcio(server, client)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert not texts or texts == ["r 1", "r 2", "r 3"]


@pytest.mark.parametrize("method", [f"/{SERVICE}/Missing", "/other.Service/Say", f"/{SERVICE}/NotWritten"])
async def test_what_is_not_there_is_unimplemented(method: str) -> None:
    async with echo_server() as server:
        error = await with_grpcio(server, lambda channel: _failure(channel.unary_unary(method), b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert server.codes() == [Code.UNIMPLEMENTED]
        assert not server.errors


async def test_bytes_that_are_no_message_are_an_invalid_argument() -> None:
    async with echo_server() as server:
        error = await with_grpcio(
            server, lambda channel: _failure(channel.unary_unary(f"/{SERVICE}/Say"), b"\xff\xff\xff")
        )
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_deadline_cancels_the_handler() -> None:
    async with echo_server() as server:
        error = await with_grpcio(
            server, lambda channel: _failure(say(channel), wire.EchoRequest(behaviour="hang"), timeout=0.3)
        )
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await server.echo.until(lambda echo: echo.cancelled == 1)
        await server.until_ended(1)
        # The client may have reset the call an instant before our own clock struck.
        assert server.codes()[0] in (Code.DEADLINE_EXCEEDED, Code.CANCELLED)


async def test_a_cancel_by_the_client_cancels_the_handler() -> None:
    async with echo_server() as server:
        go = threading.Event()

        def client(channel: grpc.Channel) -> bool:
            call = say(channel).future(wire.EchoRequest(behaviour="hang"), timeout=TIMEOUT_S)
            assert go.wait(TIMEOUT_S)
            return bool(call.cancel())

        async def cancel_when_entered() -> None:
            await server.echo.until(lambda echo: echo.entered == 1)
            go.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_entered)
            assert await with_grpcio(server, client)
        await server.echo.until(lambda echo: echo.cancelled == 1)
        await server.until_ended(1)
        assert server.codes() == [Code.CANCELLED]


async def test_a_closed_channel_cancels_its_handlers() -> None:
    async with echo_server() as server:

        def client() -> None:
            channel = grpc.insecure_channel(server.address)
            calls = [say(channel).future(wire.EchoRequest(behaviour="hang")) for _ in range(3)]
            deadline = time.monotonic() + TIMEOUT_S
            while server.echo.entered < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            channel.close()
            assert len(calls) == 3

        await in_thread(client)
        await server.echo.until(lambda echo: echo.cancelled == 3)


async def test_a_stream_that_the_client_leaves_is_closed() -> None:
    def client(channel: grpc.Channel) -> list[str]:
        stream = repeat(channel)(wire.EchoRequest(text="on"), timeout=TIMEOUT_S)
        texts = [response.text for response in islice(stream, 3)]
        stream.cancel()
        return texts

    async with echo_server() as server:
        assert await with_grpcio(server, client) == ["on 1", "on 2", "on 3"]
        await server.until_ended(1)
        assert server.codes() == [Code.CANCELLED]


async def test_a_slow_reader_holds_the_handler_back() -> None:
    async with echo_server() as server:
        sent_while_unread: list[int] = []

        def client(channel: grpc.Channel) -> int:
            stream = repeat(channel)(
                wire.EchoRequest(text="big", count=300, response_bytes=60_000), timeout=3 * TIMEOUT_S
            )
            next(stream)
            # Wait until the server has been still for a while, then read the rest.
            last = -1
            while last != server.echo.sent:
                last = server.echo.sent
                time.sleep(0.2)
            sent_while_unread.append(last)
            return 1 + sum(1 for _ in stream)

        assert await with_grpcio(server, client) == 300
        assert sent_while_unread[0] < 250


async def test_requests_are_streamed_with_flow_control() -> None:
    def requests() -> Iterator[wire.EchoRequest]:
        for number in range(200):
            yield wire.EchoRequest(text=str(number % 10), body=bytes(30_000))

    async with echo_server() as server:
        response = await with_grpcio(server, lambda channel: collect(channel)(requests(), timeout=TIMEOUT_S))
        assert response.text == "0123456789" * 20
        assert response.seen["bytes"] == str(200 * 30_000)


async def test_both_directions_are_streamed() -> None:
    def client(channel: grpc.Channel) -> list[str]:
        requests = (wire.EchoRequest(text=str(number), body=bytes(100_000)) for number in range(20))
        return [response.text for response in chat(channel)(requests, timeout=TIMEOUT_S)]

    async with echo_server() as server:
        assert await with_grpcio(server, client) == [str(number) for number in range(20)]


async def test_an_error_ends_a_stream_of_requests_at_once() -> None:
    def client(channel: grpc.Channel) -> grpc.RpcError:
        def requests() -> Iterator[wire.EchoRequest]:
            for _ in range(1000):
                yield wire.EchoRequest(behaviour="refuse", body=bytes(50_000))

        return _failure(collect(channel), requests())

    async with echo_server() as server:
        error = await with_grpcio(server, client)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_many_calls_at_once_on_one_connection() -> None:
    def client(channel: grpc.Channel) -> list[str]:
        calls = [say(channel).future(wire.EchoRequest(text=str(number)), timeout=TIMEOUT_S) for number in range(500)]
        return [call.result().text for call in calls]

    async with echo_server(GrpcLimits(max_streams=50)) as server:
        assert await with_grpcio(server, client) == [str(number) for number in range(500)]
        assert server.server.calls == 0
        assert server.server.streams == 0
