"""Deadlines of a connection and its calls, under a clock of the test's own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trio
import trio.testing
from hyperframe.frame import PingFrame

from trio_grpc import CallContext, Code, GrpcLimits
from trio_grpc.connection import ServerConnection
from trio_grpc.context import Peer
from trio_grpc.frames import PREFACE
from trio_grpc.hooks import Hooks
from trio_grpc.net import Account, Bound, PeerLimiter, ResourceKind
from trio_grpc.running import Method, ServerContext

from .raw_client import RawClient, data, message, request_headers, settings, window_update

_UNAVAILABLE = str(int(Code.UNAVAILABLE))


class _Bytes(bytes):
    def SerializeToString(self) -> bytes:
        return self


async def _hang(_request: Any, _call: CallContext) -> Any:
    await trio.sleep_forever()


async def _collect(requests: AsyncIterator[Any], _call: CallContext) -> Any:
    async for _ in requests:
        pass


async def _large(_request: Any, _call: CallContext) -> Any:
    await trio.lowlevel.checkpoint()
    return _Bytes(1 << 20)


def _method(name: str, handler: Callable[..., Any], *, streams_requests: bool = False) -> Method:
    return Method(
        f"/a.B/{name}",
        handler,
        bytes,
        streams_requests=streams_requests,
        streams_responses=False,
        max_message_bytes=1000,
    )


@dataclass
class _World:
    connection: ServerConnection
    client: RawClient
    limiter: PeerLimiter
    ended: list[CallContext] = field(default_factory=list)


@asynccontextmanager
async def connected(limits: GrpcLimits) -> AsyncIterator[_World]:
    """One connection whose deadlines are looked at every second, as the server does."""
    near, far = socket.socketpair()
    near.setblocking(False)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 10)
    methods = [_method("Hang", _hang), _method("Collect", _collect, streams_requests=True), _method("Large", _large)]
    limiter = PeerLimiter(
        {ResourceKind.CALLS: Bound(10), ResourceKind.STREAMS: Bound(10), ResourceKind.BUFFERED_BYTES: Bound(8 << 20)}
    )
    client = RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(far)))
    world = _World(cast("Any", None), client, limiter)

    @contextmanager
    def observe(call: CallContext) -> Any:
        try:
            yield
        finally:
            world.ended.append(call)

    def ended(_account: Account, plain: socket.socket) -> None:
        plain.close()

    shared = ServerContext(limits, {method.path: method for method in methods}, Hooks(observe=observe), ended)

    async def keep_time() -> None:
        while True:
            await trio.sleep(1)
            world.connection.check(trio.current_time())

    with near, far:
        async with trio.open_nursery() as nursery:
            shared.nursery = nursery
            world.connection = ServerConnection(shared, near, Peer("test"), limiter.account("test"))
            nursery.start_soon(shared.reactor.run)
            nursery.start_soon(keep_time)
            yield world
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("method", ["Hang", "Collect"])
@pytest.mark.parametrize("has_begun", [True, False], ids=["running", "arriving"])
async def test_calls_that_are_no_streams_of_responses_end_after_age_and_grace(
    autojump_clock: trio.testing.MockClock, method: str, has_begun: bool
) -> None:
    limits = GrpcLimits(max_age_s=100.0, max_age_grace_s=50.0, request_timeout_s=1e6, keepalive_interval_s=1e6)
    async with connected(limits) as world:
        client = world.client
        begun = trio.current_time()
        await client.send(PREFACE, settings(), client.head(1, request_headers(_path=f"/a.B/{method}")))
        if has_begun:
            await client.send(data(1, message(b"x"), end=method == "Hang"))
        await client.read_until(lambda seen: seen.status(1))
        assert client.status(1) == _UNAVAILABLE
        assert "grpc-status-details-bin" in dict(client.headers[1][-1])
        assert 150 <= trio.current_time() - begun <= 175
        await client.read_to_end()
        assert [call.code for call in world.ended] == [Code.UNAVAILABLE]


def _calls_of_large(count: int) -> bytes:
    client = RawClient(cast("Any", None))
    frames = [settings({0x4: 2**31 - 1}), window_update(0, 2**30)]
    for stream_id in range(1, 2 * count, 2):
        frames += [client.head(stream_id, request_headers(_path="/a.B/Large")), data(stream_id, message(b""), end=True)]
    return PREFACE + b"".join(frame.serialize() for frame in frames)


async def test_a_client_that_reads_steadily_gets_everything_however_long_it_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected(GrpcLimits()) as world:
        begun, taken = trio.current_time(), 0
        await world.client.stream.send_all(_calls_of_large(2))
        for piece in range(1, 33):  # of 64 KiB
            await trio.sleep(14)  # twice within the timeout: the last bytes of one are in the kernel until the next
            while taken < piece << 16:
                taken += len(await world.client.stream.receive_some((piece << 16) - taken))
        while len(world.ended) < 2:
            await world.client.stream.receive_some()
        assert [call.code for call in world.ended] == [Code.OK, Code.OK]
        assert trio.current_time() - begun > 400


async def test_a_client_that_reads_nothing_loses_its_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(GrpcLimits()) as world:
        begun = trio.current_time()
        await world.client.stream.send_all(_calls_of_large(2))
        while len(world.ended) < 2:  # noqa: ASYNC110 - no event announces it
            await trio.sleep(1)
        assert [call.code for call in world.ended] == [Code.CANCELLED, Code.CANCELLED]
        assert 30 <= trio.current_time() - begun <= 33


async def test_a_client_that_does_not_take_its_answer_holds_no_handler_and_its_call_is_not_ok(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected(GrpcLimits()) as world:
        client = world.client
        await client.send(PREFACE, settings({0x4: 0}), client.head(1, request_headers(_path="/a.B/Large")))
        await client.send(data(1, message(b""), end=True))
        await trio.sleep(5)
        assert world.limiter.held(ResourceKind.CALLS) == 0
        assert world.limiter.held(ResourceKind.BUFFERED_BYTES) > 1 << 20
        assert not world.ended
        await client.read_until(lambda seen: seen.resets())
        await trio.testing.wait_all_tasks_blocked()
        assert [call.code for call in world.ended] == [Code.CANCELLED]
        assert world.limiter.held(ResourceKind.BUFFERED_BYTES) == 0


async def test_a_client_that_answers_no_ping_is_abandoned(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(GrpcLimits()) as world:
        await world.client.send(PREFACE, settings())
        await world.client.read_to_end()
        assert world.client.of(PingFrame)
        assert 80 <= trio.current_time() <= 83


async def test_a_call_that_is_still_arriving_when_its_client_leaves_is_observed() -> None:
    async with connected(GrpcLimits()) as world:
        client = world.client
        await client.send(PREFACE, settings(), client.head(1, request_headers(_path="/a.B/Hang")))
        await client.read_until(lambda seen: seen.frames)
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert [call.code for call in world.ended] == [Code.CANCELLED]
