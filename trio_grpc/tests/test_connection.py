"""The driver of one connection, over a stream that the test holds."""

from __future__ import annotations

import itertools
import os
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hpack import Encoder
from hyperframe.frame import HeadersFrame

from trio_grpc.connection import ServerConnection
from trio_grpc.context import CallContext, Peer
from trio_grpc.frames import PREFACE
from trio_grpc.hooks import Hooks
from trio_grpc.limits import GrpcLimits
from trio_grpc.net import Account, Bound, PeerLimiter, ResourceKind
from trio_grpc.running import Method, ServerContext
from trio_grpc.server import GrpcServer
from trio_grpc.status import Code, RpcError

from .raw_client import RawClient, data, message, request_headers, settings

_PIECES = 100
_CALLS_IN_PIECE = 100


def _account() -> Account:
    return PeerLimiter({ResourceKind.CALLS: Bound(2000), ResourceKind.BUFFERED_BYTES: Bound(2 << 20)}).account("test")


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


_ends = trio.lowlevel.ParkingLot()  # of connections


def _ended(_account: Account, plain: socket.socket) -> None:
    plain.close()
    _ends.unpark_all()


@asynccontextmanager
async def _connected(shared: ServerContext) -> AsyncIterator[tuple[ServerConnection, trio.SocketStream]]:
    """A connection whose socket takes little, and its client; ends when the connection does."""
    near, far = socket.socketpair()
    near.setblocking(False)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with near:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(far)) as client:
            yield ServerConnection(shared, near, Peer("test"), _account()), client
        while near.fileno() >= 0:
            await _ends.park()


@asynccontextmanager
async def _serving(methods: dict[str, Method], hooks: Hooks | None = None) -> AsyncIterator[ServerContext]:
    shared = ServerContext(GrpcLimits(), methods, hooks or Hooks(), _ended)
    async with trio.open_nursery() as shared.nursery:
        shared.nursery.start_soon(shared.reactor.run)
        yield shared
        shared.nursery.cancel_scope.cancel()


async def _read_to_end(client: trio.SocketStream) -> int:
    return sum([len(data) async for data in client])


async def test_clients_that_send_much_at_once_start_few_handlers_in_each_turn_of_the_loop() -> None:
    ticks = _Ticks()
    started: Counter[int] = Counter()

    async def handle(_request: Any, _call: CallContext) -> Any:
        started[ticks.count] += 1
        await trio.lowlevel.checkpoint()
        raise RpcError(Code.ABORTED)

    method = Method("/a.B/C", handle, bytes, streams_requests=False, streams_responses=False, max_message_bytes=1000)
    trio.lowlevel.add_instrument(ticks)
    async with _serving({method.path: method}) as shared, AsyncExitStack() as clients, trio.open_nursery() as reading:
        for _ in range(4):
            _, client = await clients.enter_async_context(_connected(shared))
            await client.send_all(b"".join(_calls_at_once(90)))
            await client.send_eof()
            reading.start_soon(_read_to_end, client)
    trio.lowlevel.remove_instrument(ticks)
    assert started.total() == 360
    at_once = 4 * (11 + 4)  # what is done at once of each read, and a later turn
    assert sum(count for count in started.values() if count > 4) <= at_once


async def test_who_does_not_read_answers_is_not_read_from() -> None:
    sent = 0

    async def send(client: trio.SocketStream) -> None:
        nonlocal sent
        for piece in _calls_of_nothing():
            await client.send_all(piece)
            sent += 1
        await client.send_eof()

    async with _serving({}) as shared, _connected(shared) as (connection, client):
        shared.nursery.start_soon(send, client)
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < sent < _PIECES / 2
        assert connection._protocol.output_bytes < 600_000
        assert await _read_to_end(client) > 800_000
        assert sent == _PIECES + 1


class _Answer:
    def __init__(self, size: int) -> None:
        self._size = size

    def SerializeToString(self) -> bytes:
        return bytes(self._size)


async def _never(_request: Any, _call: CallContext) -> Any:
    await trio.sleep_forever()


async def _large(_request: Any, _call: CallContext) -> Any:
    return _Answer(60_000)


@asynccontextmanager
async def _asked(hooks: Hooks) -> AsyncIterator[tuple[ServerConnection, trio.Nursery, RawClient]]:
    """A connection, the nursery of its handlers, and its client. It has made no call."""
    method = Method("/a.B/C", _large, bytes, streams_requests=False, streams_responses=False, max_message_bytes=1000)
    async with _serving({method.path: method}, hooks) as shared, _connected(shared) as (connection, stream):
        client = RawClient(stream)
        await client.send(PREFACE, settings())
        await client.read_until(lambda seen: len(seen.frames) > 1)
        yield connection, shared.nursery, client


async def test_an_answer_that_waits_for_its_client_occupies_no_task() -> None:
    async with _asked(Hooks()) as (_, nursery, client):
        assert len(nursery.child_tasks) == 1  # which watches all sockets
        head = client.head(1, request_headers(_path="/a.B/C"))
        await client.send(head, data(1, message(b""), end=True))
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        await client.read_until(lambda seen: seen.status(1) == "0")
    assert len(client.body(1)) == 60_000 + 5


async def test_a_bug_met_in_a_call_is_reported_and_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = RuntimeError("a bug")
    reported = []

    def fail(_stream_id: int) -> bool:
        raise bug

    async with _asked(Hooks(on_error=lambda *error: reported.append(error[1:]))) as (connection, _, client):
        monkeypatch.setattr(connection._protocol, "is_open", fail)
        await client.send(client.head(1, request_headers(_path="/a.B/C")), data(1, message(b""), end=True))
        await client.read_to_end()
    assert reported == [("connection", bug)]


async def test_a_server_without_descriptors_serves_who_connected_once_it_has_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reports the outage once, however often it tries again."""
    reported = []
    attempts = 0
    has_tried_again = trio.Event()
    accept = GrpcServer._accept

    def counted(server: GrpcServer, *arguments: Any) -> None:
        nonlocal attempts
        accept(server, *arguments)
        attempts += 1
        if attempts == 3:
            has_tried_again.set()

    def on_error(_error_id: str, what: str, _error: Exception) -> None:
        reported.append(what)

    monkeypatch.setattr(GrpcServer, "_accept", counted)
    monkeypatch.setattr("trio_grpc.server._ACCEPT_PAUSE_S", 0.01)

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
                await has_tried_again.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            client = RawClient(trio.SocketStream(plain))
            await client.send(PREFACE, settings())
            await client.read_until(lambda seen: len(seen.frames) > 1)
            nursery.cancel_scope.cancel()
    assert reported == ["accept"]


async def test_connections_have_the_options_of_their_listener() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    server = GrpcServer([], limits=GrpcLimits(keepalive_interval_s=60.0, keepalive_timeout_s=20.0))
    with trio.fail_after(30), trio.socket.socket() as plain:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener])
            await plain.connect(address)
            client = RawClient(trio.SocketStream(plain))
            await client.send(PREFACE, settings())
            await client.read_until(lambda seen: len(seen.frames) > 1)
            [connection] = server._connections.values()
            options = [socket.TCP_USER_TIMEOUT, socket.TCP_NODELAY, trio.socket.TCP_NOTSENT_LOWAT]
            found = [connection._socket.getsockopt(socket.IPPROTO_TCP, option) for option in options]
            nursery.cancel_scope.cancel()
    assert found == [80_000, 1, 16 << 10]


async def test_what_is_left_of_a_closed_connection_does_not_touch_the_next_one_on_its_descriptor() -> None:
    async with _serving({}) as shared:
        near, far = socket.socketpair()
        near.setblocking(False)
        connection = ServerConnection(shared, near, Peer("test"), _account())
        number = near.fileno()
        far.send(b"".join(_calls_at_once(90)))
        connection._read()
        assert connection._protocol.watch.has_more
        far.close()
        connection._act(connection._read)  # it finds the end, and closes
        assert near.fileno() == -1
        async with _connected(shared) as (following, stream):
            assert following._fd == number
            await trio.testing.wait_all_tasks_blocked()  # the turn that was left of the first has come
            client = RawClient(stream)
            await client.send(PREFACE, settings())
            await client.read_until(lambda seen: len(seen.frames) > 1)


async def test_a_client_with_several_calls_that_takes_nothing_is_noticed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    method = Method("/a.B/C", _large, bytes, streams_requests=False, streams_responses=False, max_message_bytes=1000)
    never = Method("/a.B/D", _never, bytes, streams_requests=False, streams_responses=False, max_message_bytes=1000)
    async with _serving({method.path: method, never.path: never}) as shared, _connected(shared) as (connection, stream):
        client = RawClient(stream)
        await client.send(PREFACE, settings())
        await client.read_until(lambda seen: len(seen.frames) > 1)
        for stream_id, path in ((1, never.path), (3, never.path), (5, method.path)):
            head = client.head(stream_id, request_headers(_path=path))
            await client.send(head, data(stream_id, message(b""), end=True))
        await trio.sleep(29)
        connection.check(trio.current_time())
        assert connection.calls
        await trio.sleep(2)
        connection.check(trio.current_time())
        await trio.testing.wait_all_tasks_blocked()
        assert not connection.calls
