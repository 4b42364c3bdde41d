"""The Trio driver of one connection: it reads, lets the protocol core decide, runs handlers, and writes.

Three kinds of tasks: the reader (the connection's own), one writer, and one per call whose handler runs. Everything
that was queued when the writer wakes goes out in one write. Unary requests get a task only once they are complete: a
client that sends slowly holds a stream, but no handler.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from avion_media.grpc.call import Call, Peer
from avion_media.grpc.events import (
    CallBegun,
    CallGone,
    ConnectionFailed,
    Event,
    GoodbyeHeard,
    MessageReceived,
    PeerLeaving,
    RequestEnded,
    ResponseTaken,
)
from avion_media.grpc.frames import FIRST_TURN, LATER_TURN
from avion_media.grpc.hooks import Hooks
from avion_media.grpc.limits import GrpcLimits
from avion_media.grpc.methods import Method
from avion_media.grpc.protocol import Protocol
from avion_media.grpc.running import RunningCall
from avion_media.grpc.status import Code, RpcError
from avion_media.net import Account, send_steadily

_READ_BYTES = 64 << 10
_MAX_ECHOED = 100  # characters of a path that we do not know
_MAX_UNSENT_BYTES = 512 << 10  # a client that does not read is not read from: each frame may ask for an answer
_GOODBYE_S = 1.0  # how long a drain waits for the client to have seen its GOAWAY
_LINGER_S = 1.0  # how long last words may take to leave, and to be read
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(slots=True)
class Shared:
    """What the connections of one server have in common."""

    limits: GrpcLimits
    methods: dict[str, Method]
    hooks: Hooks
    backlog: trio.StrictFIFOLock = field(default_factory=trio.StrictFIFOLock)
    """Held for the turn of a connection that has sent more than is done at once: however many there are of that kind,
    the loop does one of those turns at a time, and then what all others want."""

    def max_message_bytes(self, path: str) -> int:
        """Return the largest size of a request message of this method."""
        method = self.methods.get(path)
        return self.limits.max_message_bytes if method is None else method.max_message_bytes


@dataclass(slots=True)
class _Arriving:
    """A unary request whose message is not complete."""

    call: Call
    method: Method
    payload: bytes | None = None


class Connection:
    """One client's connection. `run` returns when it has ended, for whatever reason.

    What it holds is on ``account``, which the caller closes.
    """

    def __init__(self, shared: Shared, stream: trio.abc.Stream, peer: Peer, account: Account) -> None:
        now = trio.current_time()
        self._shared = shared
        self._stream = stream
        self._peer = peer
        self._account = account
        self._protocol = Protocol(shared.limits, account, shared.max_message_bytes, now)
        self._arriving: dict[int, _Arriving] = {}
        self._running: dict[int, RunningCall] = {}
        self._reading = trio.CancelScope()
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._writer = trio.lowlevel.ParkingLot()
        self._taken = trio.lowlevel.ParkingLot()  # where the reader waits for the writer
        self._unsent = b""
        self._closing = False
        self._drain_deadline = math.inf  # for the client to see our first GOAWAY
        self._streams_deadline = math.inf  # for streams of responses, once the connection is to end
        self._draining = self._ending_streams = self._goodbye_said = False
        self._heard_at = self._busy_at = now
        self._retires_at = now + shared.limits.lifetime_s()
        self._pinged_at: float | None = None
        self._owed_since: float | None = now  # since when the client owes the rest of a frame
        self._tasks: trio.Nursery | None = None

    @property
    def streams(self) -> int:
        """Calls that have not ended, arriving ones included."""
        return self._protocol.calls

    @property
    def idle_since(self) -> float:
        """When the last call ended, or the connection began; infinite while there is a call, or the end has begun."""
        return math.inf if self._protocol.calls or self._draining else self._busy_at

    async def run(self) -> None:
        """Serve until the client leaves, a bound is broken, or a drain has ended. Always closes the stream."""
        try:
            async with trio.open_nursery() as writing:
                writing.start_soon(self._write)
                async with trio.open_nursery() as self._tasks:
                    with self._reading:
                        await self._read()
                    self._tasks.cancel_scope.cancel()
                self._closing = True
                self._wake_writer()
                writing.cancel_scope.deadline = trio.current_time() + _LINGER_S
            await self._linger()
        finally:
            self._protocol.close()
            await trio.aclose_forcefully(self._stream)

    @property
    def _is_drained(self) -> bool:
        return self._goodbye_said and not self._protocol.calls and not self._running

    # -- Reading and writing

    async def _read(self) -> None:
        receive = self._stream.receive_some
        while True:
            try:
                data = await receive(_READ_BYTES)
            except _BROKEN:
                return
            if not data:
                return
            self._heard_at = trio.current_time()
            self._pinged_at = None
            if not await self._work_off(bytes(data)):
                return
            await self._until_taken()

    async def _work_off(self, data: bytes) -> bool:
        """Act on what was read, in turns between which others have theirs; return whether the connection goes on."""
        end = self._protocol.end_of_turn(data, 0, FIRST_TURN)
        goes_on = self._turn(data[:end])
        while goes_on and end < len(data):
            await self._until_taken()
            async with self._shared.backlog:
                begin, end = end, self._protocol.end_of_turn(data, end, LATER_TURN)
                goes_on = self._turn(data[begin:end])
        return goes_on

    def _turn(self, piece: bytes) -> bool:
        """Act on a piece of it; likewise."""
        now = trio.current_time()
        before = self._protocol.frames_begun
        failed = self._dispatch(self._protocol.receive(piece, now))
        if not self._protocol.mid_frame:
            self._owed_since = None
        elif self._owed_since is None or self._protocol.frames_begun != before:
            self._owed_since = now
        self._wake_writer()
        return not failed

    async def _until_taken(self) -> None:
        if self._protocol.output_bytes < _MAX_UNSENT_BYTES:
            return
        self._owed_since = None  # the rest of a frame may wait in the kernel
        while self._protocol.output_bytes >= _MAX_UNSENT_BYTES:
            await self._taken.park()
        self._heard_at = trio.current_time()
        self._owed_since = self._heard_at if self._protocol.mid_frame else None

    async def _write(self) -> None:
        while True:
            output = self._unsent + self._protocol.take_output()
            self._taken.unpark_all()
            self._unsent = b""
            if output:
                if not await send_steadily(self._stream, output, self._shared.limits.write_timeout_s):
                    self._reading.cancel()
                    return
                self._dispatch(self._protocol.written(trio.current_time()))
            elif self._closing:
                return
            elif self._is_drained:
                self._reading.cancel()
                await self._writer.park()
            else:
                await self._writer.park()

    def _write_now(self) -> None:
        """Write at once: for a client that makes one call at a time this saves two of four turns of Trio's loop."""
        if self._socket is None or not self._writer or not self._protocol.has_output:
            self._wake_writer()  # TLS, or the writer is at work
            return
        output = self._protocol.take_output()
        try:
            sent = os.write(self._socket.fileno(), output)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._reading.cancel()
            return
        if sent < len(output):
            self._unsent = output[sent:]
            self._writer.unpark()
        else:
            self._dispatch(self._protocol.written(trio.current_time()))
            self._wake_writer()

    async def _linger(self) -> None:
        """Let the client read our last words: a socket closed with unread input discards them (RFC 9112, 9.6)."""
        with trio.move_on_after(_LINGER_S):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                while await self._stream.receive_some(_READ_BYTES):
                    pass
            except _BROKEN:
                pass

    def _wake_writer(self) -> None:
        if self._protocol.has_output or self._closing or self._is_drained:
            self._writer.unpark()

    # -- Events

    def _dispatch(self, events: Iterable[Event]) -> bool:
        """Act on events; whether the connection has failed."""
        for event in events:
            if isinstance(event, MessageReceived):
                self._message(event)
            elif isinstance(event, RequestEnded):
                self._request_ended(event.stream_id)
            elif isinstance(event, CallBegun):
                self._begun(event)
            elif isinstance(event, CallGone):
                self._gone(event)
            elif isinstance(event, ResponseTaken):
                if event.stream_id in self._running:
                    self._running[event.stream_id].wake()
            elif isinstance(event, GoodbyeHeard):
                self._say_goodbye()
            elif isinstance(event, PeerLeaving):
                self.retire()
            elif isinstance(event, ConnectionFailed):
                return True
        return False

    def _begun(self, event: CallBegun) -> None:
        head = event.head
        now = trio.current_time()
        self._busy_at = now
        call = Call(head.path, self._peer, head.metadata, now + head.timeout_s, now)
        # First of all, so that an unknown caller learns nothing else.
        refusal = self._shared.hooks.refusal_of(call) or head.refusal
        method = self._shared.methods.get(head.path)
        if head.http_refusal is not None:
            self._protocol.send_http_refusal(event.stream_id, head.http_refusal)
            call.code = Code.UNKNOWN  # what clients of gRPC make of 405 and 415
            self._note(call)
        elif refusal is not None:
            self._refuse(event.stream_id, call, refusal)
        elif method is None:
            self._refuse(event.stream_id, call, RpcError(Code.UNIMPLEMENTED, f"no method {head.path[:_MAX_ECHOED]}"))
        elif method.streams_requests:
            self._start(event.stream_id, call, method)
        else:
            self._arriving[event.stream_id] = _Arriving(call, method)

    def _message(self, event: MessageReceived) -> None:
        arriving = self._arriving.get(event.stream_id)
        if arriving is None:
            if event.stream_id in self._running:
                self._running[event.stream_id].put(event.payload)
        elif arriving.payload is None:
            arriving.payload = event.payload
        else:
            self._refuse_arriving(event.stream_id, RpcError(Code.UNIMPLEMENTED, "more than one message"))

    def _request_ended(self, stream_id: int) -> None:
        arriving = self._arriving.get(stream_id)
        if arriving is None:
            if stream_id in self._running:
                self._running[stream_id].end_of_request()
        elif arriving.payload is None:
            self._refuse_arriving(stream_id, RpcError(Code.UNIMPLEMENTED, "a request without its message"))
        else:
            del self._arriving[stream_id]
            self._start(stream_id, arriving.call, arriving.method, arriving.payload)

    def _gone(self, event: CallGone) -> None:
        arriving = self._arriving.pop(event.stream_id, None)
        if arriving is not None:
            arriving.call.code = event.code
            self._note(arriving.call)
        running = self._running.get(event.stream_id)
        if running is not None:
            running.scope.cancel()

    # -- Calls

    def _start(self, stream_id: int, call: Call, method: Method, payload: bytes | None = None) -> None:
        shared = self._shared
        if self._tasks is None or not self._account.take(**method.takes):
            self._refuse(stream_id, call, RpcError(Code.RESOURCE_EXHAUSTED, "too many calls at once"))
            return
        running = RunningCall(call, method, stream_id, self._protocol, shared.hooks, self._wake_writer)
        if payload is not None:
            running.put(payload)
        if self._ending_streams:
            running.drain()
        self._running[stream_id] = running
        self._tasks.start_soon(self._run, running, name=call.method)

    async def _run(self, running: RunningCall) -> None:
        shared = self._shared
        try:
            with shared.hooks.observed(running.call):
                await running.run()
        finally:
            del self._running[running.stream_id]
            self._busy_at = trio.current_time()
            if self._running:
                self._wake_writer()  # others may end in the same turn: one write for all
            else:
                self._write_now()
            self._account.give(**running.method.takes)

    def _refuse_arriving(self, stream_id: int, error: RpcError) -> None:
        self._refuse(stream_id, self._arriving.pop(stream_id).call, error)

    def _refuse(self, stream_id: int, call: Call, error: RpcError) -> None:
        """Answer a call that gets no handler."""
        self._protocol.send_end(stream_id, error)
        call.code = error.code
        self._note(call)

    def _note(self, call: Call) -> None:
        with self._shared.hooks.observed(call):
            pass

    # -- Draining and time

    def drain(self) -> None:
        """Take no new calls, let those in flight end, then end. Streams of responses end at a message boundary."""
        self.retire()
        if not self._ending_streams:
            self._ending_streams = True
            for running in self._running.values():
                running.drain()
            self._wake_writer()

    def retire(self) -> None:
        """As `drain`, but streams of responses may go on for a while."""
        if self._draining:
            return
        self._draining = True
        now = trio.current_time()
        self._drain_deadline = now + _GOODBYE_S
        self._streams_deadline = now + self._shared.limits.max_age_grace_s
        self._protocol.begin_drain()
        self._wake_writer()

    def _say_goodbye(self) -> None:
        if self._draining and not self._goodbye_said:
            self._goodbye_said = True
            self._protocol.finish_drain()
            self._wake_writer()

    def check(self, now: float) -> None:
        """Enforce what depends on time. Called again and again by the server."""
        limits = self._shared.limits
        if self._owed_since is not None and now - self._owed_since >= limits.header_timeout_s:
            self._give_up("a frame was begun but not finished in time")
        elif self._pinged_at is not None and now - self._pinged_at >= limits.keepalive_timeout_s:
            self._reading.cancel()
        elif self._pinged_at is None and now - self._heard_at >= limits.keepalive_interval_s:
            self._pinged_at = now
            self._protocol.ping()
        self._expire_arriving(now)
        self._dispatch(self._protocol.reset_stalled(now))
        idle = not self._protocol.calls and now - self._busy_at >= limits.idle_timeout_s
        if idle or now >= self._retires_at:
            self.retire()
        if now >= self._streams_deadline:
            self.drain()
        if now >= self._drain_deadline:
            self._say_goodbye()
        self._wake_writer()

    def _expire_arriving(self, now: float) -> None:
        timeout_s = self._shared.limits.request_timeout_s
        late = [
            stream_id
            for stream_id, each in self._arriving.items()
            if now >= min(each.call.deadline, each.call.started_at + timeout_s)
        ]
        for stream_id in late:
            self._refuse_arriving(stream_id, RpcError(Code.DEADLINE_EXCEEDED, "the request did not arrive in time"))

    def _give_up(self, reason: str) -> None:
        self._protocol.give_up(reason)
        self._reading.cancel()
