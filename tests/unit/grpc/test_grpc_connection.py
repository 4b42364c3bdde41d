"""The driver of one connection, over a stream that the test holds."""

from __future__ import annotations

import itertools
import os
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hpack import Encoder
from hyperframe.frame import HeadersFrame

from avion_media.grpc.connection import Connection
from avion_media.grpc.context import CallContext, Peer
from avion_media.grpc.frames import PREFACE
from avion_media.grpc.hooks import Hooks
from avion_media.grpc.limits import GrpcLimits
from avion_media.grpc.running import Method, Shared
from avion_media.grpc.server import GrpcServer
from avion_media.grpc.status import Code, RpcError
from avion_media.net import Account, Bound, Kind, PeerLimiter
from tests.interop.raw_client import RawClient, data, message, request_headers, settings

_PIECES = 100
_CALLS_IN_PIECE = 100


def _account() -> Account:
    return PeerLimiter({Kind.CALLS: Bound(2000), Kind.BUFFERED_BYTES: Bound(2 << 20)}).account("test")


class _Client(trio.abc.Stream):
    """Sends pieces one by one, and reads only once it is told to."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.sent = 0
        self.reads = trio.Event()
        self.got_bytes = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        piece = next(self._pieces, b"")
        self.sent += bool(piece)
        return piece

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.reads.wait()
        self.got_bytes += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.reads.wait()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _calls_of_nothing() -> Iterator[bytes]:
    yield PREFACE + bytes(settings().serialize())
    encoder = Encoder()
    stream_ids = itertools.count(1, 2)
    for _ in range(_PIECES):
        calls: list[bytes] = []
        for stream_id in itertools.islice(stream_ids, _CALLS_IN_PIECE):
            # Each path is new, so that the answers that repeat it do not become short.
            block = encoder.encode(request_headers(_path=f"/nobody/{stream_id}" + "~" * 300))
            calls.append(HeadersFrame(stream_id, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
        yield b"".join(calls)


def _calls_at_once(count: int) -> Iterator[bytes]:
    yield PREFACE + bytes(settings().serialize())
    encoder = Encoder()
    stream_ids = range(1, 2 * count, 2)
    frames = [
        frame
        for stream_id in stream_ids
        for frame in (
            HeadersFrame(stream_id, encoder.encode(request_headers(_path="/a.B/C")), flags=["END_HEADERS"]),
            data(stream_id, message(b"x"), end=True),
        )
    ]
    yield b"".join(frame.serialize() for frame in frames)


class _Ticks(trio.abc.Instrument):
    """Counts the turns of Trio's loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_clients_that_send_much_at_once_start_few_handlers_in_each_turn_of_the_loop() -> None:
    ticks = _Ticks()
    started: Counter[int] = Counter()

    async def handle(_request: Any, _call: CallContext) -> Any:
        started[ticks.count] += 1
        await trio.lowlevel.checkpoint()
        raise RpcError(Code.ABORTED)

    method = Method("/a.B/C", handle, bytes, streams_requests=False, streams_responses=False, max_message_bytes=1000)
    shared = Shared(GrpcLimits(), {method.path: method}, Hooks())
    trio.lowlevel.add_instrument(ticks)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            client = _Client(_calls_at_once(90))
            client.reads.set()
            Connection(shared, nursery, client, Peer("test"), _account(), lambda: None).begin()
    trio.lowlevel.remove_instrument(ticks)
    assert started.total() == 360
    at_once = 4 * 11  # what is done at once of each read
    assert sum(count for count in started.values() if count > 4) <= at_once


async def test_who_does_not_read_answers_is_not_read_from() -> None:
    client = _Client(_calls_of_nothing())
    limits = GrpcLimits()
    shared = Shared(limits, {}, Hooks())
    async with trio.open_nursery() as nursery:
        connection = Connection(shared, nursery, client, Peer("test"), _account(), lambda: None)
        connection.begin()
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < client.sent < _PIECES / 2
        assert connection._protocol.output_bytes < 600_000
        client.reads.set()
    assert client.sent == _PIECES + 1
    assert client.got_bytes > 800_000


class _Answer:
    def __init__(self, size: int) -> None:
        self._size = size

    def SerializeToString(self) -> bytes:
        return bytes(self._size)


async def _large(_request: Any, _call: CallContext) -> Any:
    return _Answer(60_000)


async def _read(shared: Shared, scope: trio.CancelScope) -> None:
    with scope:
        await shared.readiness.run()


@asynccontextmanager
async def _over_a_socket(hooks: Hooks) -> AsyncIterator[tuple[Connection, trio.Nursery, RawClient]]:
    """A connection whose socket takes little, its nursery, and its client. It has made no call."""
    near, far = socket.socketpair()
    near.setblocking(False)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    method = Method("/a.B/C", _large, bytes, streams_requests=False, streams_responses=False, max_message_bytes=1000)
    with near:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(far)) as stream, trio.open_nursery() as nursery:
            shared = Shared(GrpcLimits(), {method.path: method}, hooks)
            reading = trio.CancelScope()
            connection = Connection(shared, nursery, near, Peer("test"), _account(), reading.cancel)
            connection.begin()
            nursery.start_soon(_read, shared, reading)
            client = RawClient(stream)
            await client.send(PREFACE, settings())
            await client.read_until(lambda seen: len(seen.frames) > 1)
            yield connection, nursery, client


async def test_a_connection_has_a_task_only_once_a_write_would_block() -> None:
    async with _over_a_socket(Hooks()) as (_, nursery, client):
        assert len(nursery.child_tasks) == 1  # which watches all sockets
        head = client.head(1, request_headers(_path="/a.B/C"))
        await client.send(head, data(1, message(b""), end=True))
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2
        await client.read_until(lambda seen: seen.status(1) == "0")
        await client.stream.aclose()
    assert len(client.body(1)) == 60_000 + 5


async def test_a_bug_met_in_a_call_is_reported_and_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = RuntimeError("a bug")
    reported = []

    def fail(_stream_id: int) -> bool:
        raise bug

    async with _over_a_socket(Hooks(on_error=lambda *error: reported.append(error[1:]))) as (connection, _, client):
        monkeypatch.setattr(connection._protocol, "is_open", fail)
        await client.send(client.head(1, request_headers(_path="/a.B/C")), data(1, message(b""), end=True))
    assert reported == [("connection", bug)]


async def test_a_server_without_descriptors_serves_who_connected_once_it_has_some() -> None:
    reported = []
    is_reported = trio.Event()

    def on_error(_error_id: str, what: str, _error: Exception) -> None:
        reported.append(what)
        is_reported.set()

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with trio.fail_after(30), trio.socket.socket() as plain:
        async with trio.open_nursery() as nursery:
            await nursery.start(GrpcServer([], hooks=Hooks(on_error=on_error)).serve, [listener])
            await trio.testing.wait_all_tasks_blocked()
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
            try:
                await plain.connect(address)
                await is_reported.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            client = RawClient(trio.SocketStream(plain))
            await client.send(PREFACE, settings())
            await client.read_until(lambda seen: len(seen.frames) > 1)
            nursery.cancel_scope.cancel()
    assert reported == ["accept"]
