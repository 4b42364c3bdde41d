"""Deadlines of a connection and its calls, under a clock of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing
from hyperframe.frame import PingFrame

from avion_media.grpc import CallContext, Code, GrpcLimits
from avion_media.grpc.connection import Connection
from avion_media.grpc.context import Peer
from avion_media.grpc.frames import PREFACE
from avion_media.grpc.hooks import Hooks
from avion_media.grpc.running import Method, Shared
from avion_media.net import Bound, Kind, PeerLimiter
from tests.interop.raw_client import RawClient, data, message, request_headers, settings, window_update

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
    connection: Connection
    client: RawClient
    limiter: PeerLimiter
    ended: list[CallContext] = field(default_factory=list)


@asynccontextmanager
async def connected(limits: GrpcLimits, stream: trio.abc.Stream | None = None) -> AsyncIterator[_World]:
    """One connection whose deadlines are looked at every second, as the server does."""
    near, far = trio.testing.memory_stream_pair()
    methods = [_method("Hang", _hang), _method("Collect", _collect, streams_requests=True), _method("Large", _large)]
    limiter = PeerLimiter({Kind.CALLS: Bound(10), Kind.STREAMS: Bound(10), Kind.BUFFERED_BYTES: Bound(8 << 20)})
    world = _World(cast("Any", None), RawClient(cast("Any", far)), limiter)

    @contextmanager
    def observe(call: CallContext) -> Any:
        try:
            yield
        finally:
            world.ended.append(call)

    shared = Shared(limits, {method.path: method for method in methods}, Hooks(observe=observe))

    async def keep_time() -> None:
        while True:
            await trio.sleep(1)
            world.connection.check(trio.current_time())

    async with trio.open_nursery() as nursery:
        ended = partial(nursery.start_soon, trio.aclose_forcefully, stream or near)
        world.connection = Connection(shared, nursery, stream or near, Peer("test"), limiter.account("test"), ended)
        world.connection.begin()
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


class _SlowReader(trio.abc.Stream):
    """A client that takes 64 KiB in each 20 seconds, all its life; what it sends was sent at the start."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self.taken = bytearray()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._sent:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        sent, self._sent = self._sent, b""
        return sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for start in range(0, len(data), 64 << 10):
            await trio.sleep(20)
            self.taken += data[start : start + (64 << 10)]

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _calls_of_large(count: int) -> bytes:
    client = RawClient(cast("Any", None))
    frames = [settings({0x4: 2**31 - 1}), window_update(0, 2**30)]
    for stream_id in range(1, 2 * count, 2):
        frames += [client.head(stream_id, request_headers(_path="/a.B/Large")), data(stream_id, message(b""), end=True)]
    return PREFACE + b"".join(frame.serialize() for frame in frames)


async def test_a_client_that_reads_steadily_gets_everything_however_long_it_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    reader = _SlowReader(_calls_of_large(2))
    async with connected(GrpcLimits(), reader) as world:
        begun = trio.current_time()
        while len(world.ended) < 2:  # noqa: ASYNC110 - no event announces it
            await trio.sleep(10)
        assert [call.code for call in world.ended] == [Code.OK, Code.OK]
        await trio.sleep(200)
        assert len(reader.taken) > 2 << 20
        assert 500 < trio.current_time() - begun < 1200


async def test_a_client_that_does_not_take_its_answer_holds_no_handler_and_its_call_is_not_ok(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected(GrpcLimits()) as world:
        client = world.client
        await client.send(PREFACE, settings({0x4: 0}), client.head(1, request_headers(_path="/a.B/Large")))
        await client.send(data(1, message(b""), end=True))
        await trio.sleep(5)
        assert world.limiter.held(Kind.CALLS) == 0
        assert world.limiter.held(Kind.BUFFERED_BYTES) > 1 << 20
        assert not world.ended
        await client.read_until(lambda seen: seen.resets())
        assert [call.code for call in world.ended] == [Code.CANCELLED]
        assert world.limiter.held(Kind.BUFFERED_BYTES) == 0


async def test_a_client_that_answers_no_ping_is_abandoned(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(GrpcLimits()) as world:
        await world.client.send(PREFACE, settings())
        await world.client.read_to_end()
        assert world.client.of(PingFrame)
        assert 80 <= trio.current_time() <= 83
