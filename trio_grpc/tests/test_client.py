"""The client, against this library's server; `tests/interop` of the service has the server against other clients."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

import pytest
import trio
import trustme
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc.error_details_pb2 import BadRequest, RetryInfo

from trio_grpc import (
    CallError,
    Code,
    ConnectionEnded,
    GrpcLimits,
    GrpcServer,
    ReceivedMetadata,
    open_channel,
)

from .echo import Echo, connected, running, say

LARGE = bytes(range(256)) * (8 << 10)  # 2 MiB: more than any window


async def _requests(*values: bytes) -> AsyncIterator[BytesValue]:
    for value in values:
        yield BytesValue(value=value)


async def test_all_kinds_of_calls_with_messages_beyond_the_windows() -> None:
    async with connected(GrpcServer([Echo().service])) as channel:
        assert await say(channel, LARGE) == LARGE
        async with aclosing(channel.stream("/test.Echo/Repeat", BytesValue(value=LARGE), BytesValue)) as responses:
            for _ in range(10):
                assert (await anext(responses)).value == LARGE
        collected = await channel.unary("/test.Echo/Collect", _requests(LARGE, b"", b"end"), BytesValue)
        assert collected.value == LARGE + b"end"
        chat = channel.stream("/test.Echo/Chat", _requests(b"a", LARGE, b"c"), BytesValue)
        assert [response.value async for response in chat] == [b"a", LARGE, b"c"]


async def test_an_error_has_its_code_text_details_and_the_wish_of_the_server() -> None:
    async with connected(GrpcServer([Echo().service])) as channel:
        with pytest.raises(CallError) as caught:
            await say(channel, b"refuse")
        error = caught.value
        assert (error.code, error.message) == (Code.INVALID_ARGUMENT, "50 % of «it» is bad\n")
        assert [type(detail) for detail in error.details] == [BadRequest, RetryInfo]
        assert error.retry_after_s == 2.5
        with pytest.raises(CallError, match="unknown method") as caught:
            await channel.unary("/test.Echo/Other", BytesValue(), BytesValue)
        assert caught.value.code is Code.UNIMPLEMENTED


async def test_metadata_goes_both_ways() -> None:
    echo, received = Echo(), ReceivedMetadata()
    async with connected(GrpcServer([echo.service])) as channel:
        await say(channel, b"", metadata=[("x-data-bin", b"\0\xff"), ("other", "word")], received=received)
        assert echo.contexts[0].metadata.get("other") == "word"
        assert received.initial.get("x-data-bin") == received.trailing.get("x-data-bin") == b"\0\xff"
        with pytest.raises(ValueError, match="not a name"):
            await say(channel, b"", metadata=[("Upper", "case")])


async def test_a_deadline_ends_the_call_on_both_sides() -> None:
    echo = Echo()
    async with connected(GrpcServer([echo.service])) as channel:
        with pytest.raises(CallError) as caught:
            await say(channel, b"wait", timeout_s=0.2)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        await echo.until(lambda echo: echo.cancelled == 1)
        assert await say(channel, b"next", timeout_s=1e9) == b"next"
        assert echo.contexts[1].remaining_s > 90_000_000


async def test_a_cancelled_call_ends_at_the_server_and_leaves_others_alone() -> None:
    echo = Echo()
    async with connected(GrpcServer([echo.service])) as channel, trio.open_nursery() as nursery:
        nursery.start_soon(say, channel, b"wait")
        await echo.until(lambda echo: len(echo.contexts) == 1)
        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(say, channel, b"wait")
            await echo.until(lambda echo: len(echo.contexts) == 2)
            cancelled.cancel_scope.cancel()
        await echo.until(lambda echo: echo.cancelled == 1)
        assert await say(channel, b"next") == b"next"
        echo.released.set()


async def test_a_stream_that_is_closed_ends_at_the_server() -> None:
    echo = Echo()
    async with connected(GrpcServer([echo.service])) as channel:
        async with aclosing(channel.stream("/test.Echo/Repeat", BytesValue(value=b"x"), BytesValue)) as responses:
            assert (await anext(responses)).value == b"x"
        await echo.until(lambda echo: echo.cancelled == 1)


async def test_a_reader_that_pauses_stops_the_server() -> None:
    async with connected(GrpcServer([Echo().service])) as channel:
        reader = channel.stream("/test.Echo/Repeat", BytesValue(value=LARGE), BytesValue)
        async with aclosing(reader) as responses:
            await anext(responses)
            assert await say(channel, LARGE) == LARGE  # the pause holds up nothing else
            [call] = channel._calls.values()
            assert len(call.inbox) == 1


async def test_calls_end_with_the_connection() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def die(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.aclose()

        await nursery.start(partial(trio.serve_listeners, die, listeners))
        async with open_channel(*listeners[0].socket.getsockname()) as channel:
            with trio.fail_after(5), pytest.raises(ConnectionEnded) as caught:
                await say(channel, b"")
            assert caught.value.code is Code.UNAVAILABLE
            assert not channel.is_open
            with pytest.raises(ConnectionEnded):
                await say(channel, b"")
        nursery.cancel_scope.cancel()


async def test_a_drain_serves_the_calls_in_flight_and_refuses_new_ones() -> None:
    echo = Echo()
    server = GrpcServer([echo.service])
    results: list[bytes] = []

    async def call() -> None:
        results.append(await say(channel, b"wait"))

    async with connected(server) as channel, trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await echo.until(lambda echo: len(echo.contexts) == 1)
        nursery.start_soon(server.drain, 10)
        while channel.is_open:
            await trio.lowlevel.checkpoint()
        with pytest.raises(ConnectionEnded, match="shutting down"):
            await say(channel, b"new")
        echo.released.set()
    assert results == [b"wait"]


async def test_calls_beyond_the_limit_of_the_server_wait() -> None:
    server = GrpcServer([Echo().service], limits=GrpcLimits(max_streams=2))
    results: list[bytes] = []

    async def call(number: int) -> None:
        results.append(await say(channel, b"%d" % number))

    async with connected(server) as channel:
        await say(channel, b"")  # then the limit is known
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(call, number)
    assert sorted(results) == sorted(b"%d" % number for number in range(20))


async def test_a_response_beyond_the_limit_is_refused() -> None:
    limits = GrpcLimits(max_send_bytes=8 << 20)
    async with connected(GrpcServer([Echo().service], limits=limits)) as channel:
        with pytest.raises(CallError, match="the limit") as caught:
            await say(channel, b"many")
        assert caught.value.code is Code.RESOURCE_EXHAUSTED


async def test_what_the_requests_raise_is_raised_by_the_call() -> None:
    async def broken() -> AsyncIterator[BytesValue]:
        yield BytesValue(value=b"first")
        raise LookupError("second")

    async with connected(GrpcServer([Echo().service])) as channel:
        with pytest.raises(LookupError, match="second"):
            await channel.unary("/test.Echo/Collect", broken(), BytesValue)
        assert await say(channel, b"next") == b"next"


async def test_what_the_block_raises_passes_without_a_group_around_it() -> None:
    async with running(GrpcServer([])) as port:
        with pytest.raises(LookupError, match="as it is"):
            async with open_channel("127.0.0.1", port):
                raise LookupError("as it is")
    with trio.move_on_after(0.1) as scope:
        async with running(GrpcServer([])) as port, open_channel("127.0.0.1", port):
            await trio.sleep_forever()
    assert scope.cancelled_caught


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    return context


async def test_tls_with_a_certificate_of_the_client(authority: trustme.CA) -> None:
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.set_alpn_protocols(["h2"])
    authority.issue_cert("media.test").configure_cert(served)
    authority.configure_trust(served)
    served.verify_mode = ssl.CERT_REQUIRED
    context = _client(authority)
    authority.issue_cert("a-caller@test").configure_cert(context)
    echo = Echo()
    async with (
        running(GrpcServer([echo.service]), served) as port,
        open_channel("127.0.0.1", port, ssl_context=context, server_name="media.test") as channel,
    ):
        assert await say(channel, LARGE) == LARGE
    certificate = echo.contexts[0].peer.certificate
    assert certificate is not None
    assert certificate["subjectAltName"] == (("email", "a-caller@test"),)


async def test_a_server_that_cannot_be_trusted_or_reached(authority: trustme.CA) -> None:
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.set_alpn_protocols(["h2"])
    trustme.CA().issue_cert("127.0.0.1").configure_cert(served)
    async with running(GrpcServer([]), served) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with open_channel("127.0.0.1", port, ssl_context=_client(authority)):
                pass
    with pytest.raises(OSError, match="connect"):
        async with open_channel("127.0.0.1", port):
            pass


async def test_a_server_that_is_not_one_of_http2() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def answer(stream: trio.SocketStream) -> None:
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await trio.sleep_forever()

        await nursery.start(partial(trio.serve_listeners, answer, listeners))
        async with open_channel(*listeners[0].socket.getsockname()) as channel:
            with trio.fail_after(5), pytest.raises(ConnectionEnded, match="broke the protocol"):
                await say(channel, b"")
        nursery.cancel_scope.cancel()
