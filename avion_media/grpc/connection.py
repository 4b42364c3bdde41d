"""The Trio driver of one connection: it reads, calls the protocol core, runs handlers, and writes.

A socket is read without a task (`Readiness`). There is one per running handler, and a writer while output waits or
several calls run; it sends everything queued in one write. A unary request gets a task only when it is complete, so a
client that sends slowly occupies a stream, but no handler.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import trio

from avion_media.grpc.context import CallContext, Peer
from avion_media.grpc.frames import FIRST_TURN, LATER_TURN
from avion_media.grpc.lifecycle import ERROR_CLOSE_S, Due, Happening, Lifecycle, State
from avion_media.grpc.protocol import Protocol
from avion_media.grpc.running import RunningCall, Shared, shutting_down
from avion_media.grpc.status import Code, RpcError
from avion_media.grpc.stream import CallBegun, CallGone, Event, MessageReceived, RequestEnded, ResponseTaken
from avion_media.net import Account, linger, send_steadily

_READ_BYTES = 64 << 10
_MAX_ECHOED = 100  # characters of an unknown path in logs
_MAX_UNSENT_BYTES = 512 << 10  # nothing is read from a client that does not read, because each frame may need an answer

Transport = trio.abc.Stream | socket.socket  # that does not block


class Connection:
    """One client's connection. Once it has ended, for any reason, it calls ``ended``, which must close the stream and
    the account.

    Its tasks are in ``nursery``. To cut it off, cancel that, wait for its end, and `close`.
    """

    def __init__(
        self,
        shared: Shared,
        nursery: trio.Nursery,
        stream: Transport,
        peer: Peer,
        account: Account,
        ended: Callable[[], None],
    ) -> None:
        now = trio.current_time()
        self._shared = shared
        self._stream = stream
        self._peer = peer
        self._account = account
        self._ended = ended
        self._protocol = Protocol(shared.limits, account, shared.max_message_bytes, now)
        self._arriving: dict[int, RunningCall] = {}  # unary requests that are not complete
        self._running: dict[int, RunningCall] = {}
        self._life = Lifecycle(shared.limits, now)
        self._socket = stream if isinstance(stream, socket.socket) else None
        self._writing: trio.CancelScope | None = None  # of the writer, once there was one
        self._reading: trio.CancelScope | None = None  # of the reader of a stream
        self._is_writing = False  # stays true when the writer has failed
        self._progress = trio.lowlevel.ParkingLot()  # who reads waits for the writer here
        self._unsent = b""
        self._nursery = nursery
        self._tasks = 0

    @property
    def streams(self) -> int:
        """Calls that have not ended, arriving ones included."""
        return self._protocol.calls

    @property
    def idle_since(self) -> float:
        """When the last call ended, or the connection began; infinite during a call, or once the end has begun."""
        return self._life.idle_since(self._protocol.calls)

    def begin(self) -> None:
        """Serve until the client leaves, exceeds a limit, or a drain has ended."""
        if self._socket is not None:
            fd = self._socket.fileno()
            self._shared.readiness.watch(fd, partial(self._act, self._read_at_once, fd))
        else:
            self._start_task(self._read)

    def close(self) -> None:
        """Release everything. No task may be left."""
        if self._socket is not None:
            self._shared.readiness.forget(self._socket.fileno())
        self._protocol.close()
        self._ended()

    def _as_stream(self) -> trio.abc.Stream:
        """Return the stream. For a socket it is made only now, because most connections never need it."""
        if isinstance(self._stream, socket.socket):
            self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._stream))
        return self._stream

    # -- Tasks, and the end

    def _start_task(self, function: Callable[..., Awaitable[None]], *args: object, name: object = None) -> None:
        self._tasks += 1
        self._nursery.start_soon(self._run_task, function, args, name=name)

    async def _run_task(self, function: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
        try:
            await function(*args)
        except Exception as error:  # noqa: BLE001 - any bug
            self._failed(error)
        finally:
            self._tasks -= 1
            self._end_if_over()

    def _act(self, function: Callable[..., None], *args: Any) -> None:
        """Do something outside of the tasks."""
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - any bug
            self._failed(error)
        self._end_if_over()

    def _failed(self, bug: Exception) -> None:
        """End the connection because of a bug, but no other."""
        self._shared.hooks.report("connection", bug)
        self._happened(Happening.GONE)

    def _end_if_over(self) -> None:
        if self._tasks:
            return
        if self._life.state is State.LINGER:
            self._start_task(self._linger)
        elif self._life.state is State.CLOSED:
            self.close()

    async def _linger(self) -> None:
        try:
            await linger(self._as_stream())
        finally:
            self._happened(Happening.GONE)

    # -- States

    def _happened(self, happening: Happening) -> None:
        now = trio.current_time()
        state = self._life.happened(happening, now)
        if state is State.GOAWAY_SENT:
            self._protocol.begin_drain()
        elif state is State.LAST_CALLS:
            self._protocol.finish_drain()
        elif state is State.CLOSING:
            self._wake_writer()
            if happening is Happening.FAILED and self._writing is not None:
                self._writing.deadline = now + ERROR_CLOSE_S
        elif state is State.LINGER or state is State.CLOSED:  # end whoever reads, and the writer
            for scope in (self._writing, self._reading):
                if scope is not None:
                    scope.cancel()
            if self._socket is not None:
                self._shared.readiness.forget(self._socket.fileno())
        if not self._life.is_reading:
            self._progress.unpark_all()
            for running in self._running.values():
                running.gone(running.call.code)
        self._settle()

    def _settle(self) -> None:
        """Update the state after events: the last call may have ended. Then write, or let the writer do it."""
        if self._life.state is State.LAST_CALLS and not self._protocol.calls and not self._running:
            self._happened(Happening.LAST_CALL_ENDED)
        if self._is_writing or self._life.state is State.CLOSED:
            return
        # This saves two of four turns of Trio's loop. But several calls may end in one turn: one write for all.
        if self._socket is not None and len(self._running) <= 1:
            self._write_at_once(self._socket)
        else:
            self._protocol.collect()
        if self._unsent or self._protocol.output_bytes:
            self._wake_writer()

    def _write_at_once(self, plain: socket.socket) -> None:
        output, now = self._protocol.take_output(), trio.current_time()
        if not output:
            return
        try:
            output = output[os.write(plain.fileno(), output) :]
            self._life.sent(now)
        except BlockingIOError:
            pass  # all of it waits
        except OSError:
            self._happened(Happening.GONE)
            return
        self._unsent = output
        if not output:
            self._dispatch(self._protocol.written(now))

    def _wake_writer(self) -> None:
        if not self._is_writing:
            self._is_writing, self._writing = True, trio.CancelScope()
            self._start_task(self._write, self._writing)

    # -- Reading and writing

    def _read_at_once(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        rest = self._received(data)
        if self._life.is_reading and (rest or self._is_behind):
            self._shared.readiness.forget(fd)
            self._start_task(self._catch_up, rest)

    async def _catch_up(self, rest: bytes) -> None:
        await self._work_off(rest)
        if self._life.is_reading:
            self.begin()

    async def _read(self) -> None:
        """Read from a stream."""
        with trio.CancelScope() as self._reading:
            while self._life.is_reading:
                try:
                    data = bytes(await self._as_stream().receive_some(_READ_BYTES))
                except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                    data = b""
                await self._work_off(self._received(data))

    def _received(self, data: bytes) -> bytes:
        """Handle the first turn of what was read. Return the rest."""
        if not self._life.is_reading:
            return b""
        if not data:
            self._happened(Happening.GONE)
            return b""
        self._life.received(trio.current_time())
        end = self._protocol.watch.end_of_turn(data, 0, FIRST_TURN)
        self._turn(data[:end])
        return data[end:]

    async def _work_off(self, rest: bytes) -> None:
        """Handle the rest in turns, so that other connections get theirs, until the client has read enough."""
        begin = 0
        while self._life.is_reading and (begin < len(rest) or self._is_behind):
            if self._is_behind:
                self._life.pause()
                await self._progress.park()
                self._life.resume(trio.current_time())
                continue
            async with self._shared.backlog:
                if self._life.is_reading:
                    end = self._protocol.watch.end_of_turn(rest, begin, LATER_TURN)
                    self._turn(rest[begin:end])
                    begin = end

    @property
    def _is_behind(self) -> bool:
        """Whether the client must read before it sends more."""
        return self._protocol.output_bytes >= _MAX_UNSENT_BYTES

    def _turn(self, piece: bytes) -> None:
        now, watch = trio.current_time(), self._protocol.watch
        before = watch.begun
        self._dispatch(self._protocol.receive(piece, now))
        if self._protocol.settled and self._life.state is State.PREFACE:
            self._happened(Happening.SETTLED)
        self._life.owes(not self._protocol.settled or watch.mid_frame, watch.begun != before, now)
        self._settle()

    async def _write(self, scope: trio.CancelScope) -> None:
        timeout_s = self._shared.limits.write_timeout_s
        with scope:
            while True:
                output = self._unsent + self._protocol.take_output()
                self._progress.unpark_all()
                self._unsent = b""
                if output:
                    if not await send_steadily(self._as_stream(), [output], timeout_s, self._life.sent):
                        break
                    self._dispatch(self._protocol.written(trio.current_time()))
                    self._settle()
                elif self._life.state is State.CLOSING:
                    self._happened(Happening.WRITTEN)
                    return
                else:
                    self._is_writing = False
                    return
        self._happened(Happening.GONE)

    # -- Events

    def _dispatch(self, events: Iterable[Event]) -> None:
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
            else:
                self._happened(event)

    def _begun(self, event: CallBegun) -> None:
        stream_id, head = event
        now = trio.current_time()
        self._life.busy(now)
        call = CallContext(head.path, self._peer, head.metadata, now + head.timeout_s, now)
        call.accepts_gzip = head.accepts_gzip
        # Before anything else, so that an unknown caller learns nothing.
        refusal = self._shared.hooks.refusal_of(call) or head.refusal
        method = self._shared.methods.get(head.path)
        if head.http_refusal is not None:
            self._protocol.send_http_refusal(stream_id, head.http_refusal)
            self._note(call, Code.UNKNOWN)  # as gRPC clients interpret 405 and 415
        elif refusal is not None:
            self._refuse(stream_id, call, refusal)
        elif method is None:
            self._refuse(stream_id, call, RpcError(Code.UNIMPLEMENTED, f"unknown method {head.path[:_MAX_ECHOED]}"))
        else:
            running = RunningCall(call, method, stream_id, self._protocol, self._shared, self._settle)
            if method.streams_requests:
                self._start(running)
            else:
                self._arriving[stream_id] = running

    def _message(self, event: MessageReceived) -> None:
        stream_id, message = event
        arriving = self._arriving.get(stream_id)
        call = arriving or self._running.get(stream_id)
        if arriving is not None and arriving.has_message:
            too_many = RpcError(Code.UNIMPLEMENTED, "expected one request message, received more")
            self._refuse_arriving(stream_id, too_many)
        elif call is not None:
            call.put(message)

    def _request_ended(self, stream_id: int) -> None:
        arriving = self._arriving.get(stream_id)
        if stream_id in self._running:
            self._running[stream_id].end_of_request()
        elif arriving is not None and arriving.has_message:
            self._start(self._arriving.pop(stream_id))
        elif arriving is not None:
            self._refuse_arriving(stream_id, RpcError(Code.UNIMPLEMENTED, "request ended before its message arrived"))

    def _gone(self, event: CallGone) -> None:
        if event.stream_id in self._arriving:
            self._note(self._arriving.pop(event.stream_id).call, event.code)
        elif event.stream_id in self._running:
            self._running[event.stream_id].gone(event.code)

    # -- Calls

    def _start(self, running: RunningCall) -> None:
        if not self._account.take(**running.method.takes):
            full = RpcError(Code.RESOURCE_EXHAUSTED, "too many concurrent calls; retry with backoff", retry_after_s=1.0)
            self._refuse(running.stream_id, running.call, full)
            return
        if self._life.ends_streams(trio.current_time()):
            running.drain()
        self._running[running.stream_id] = running
        self._start_task(self._run, running, name=running.call.method)

    async def _run(self, running: RunningCall) -> None:
        """Run a handler, and wait until the client has received the response: only then is the call's code known."""
        try:
            with self._shared.hooks.observed(running.call):
                try:
                    await running.run()
                finally:
                    self._account.give(**running.method.takes)
                    self._settle()
                await running.until_ended()
        finally:
            del self._running[running.stream_id]
            self._life.busy(trio.current_time())
            self._settle()

    def _refuse_arriving(self, stream_id: int, error: RpcError) -> None:
        self._refuse(stream_id, self._arriving.pop(stream_id).call, error)

    def _refuse(self, stream_id: int, call: CallContext, error: RpcError) -> None:
        self._protocol.send_end(stream_id, error)
        self._note(call, error.code)

    def _note(self, call: CallContext, code: Code) -> None:
        call.code = code
        with self._shared.hooks.observed(call):
            pass

    # -- Draining and time

    def drain(self, grace_s: float) -> None:
        """Accept no new calls, end those in flight as `GrpcServer.drain` says, then end."""
        self.retire()
        self._life.drain(trio.current_time(), grace_s)
        self.check(trio.current_time())

    def retire(self) -> None:
        """As `drain`, but streams of responses have `GrpcLimits.max_age_grace_s`, and other calls longer."""
        self._act(self._happened, Happening.RETIRED)

    def check(self, now: float) -> None:
        """Enforce the deadlines. The server calls it repeatedly."""
        self._act(self._check, now)

    def _check(self, now: float) -> None:
        for due in self._life.due(now, self._protocol.calls, is_writing=bool(self._is_writing)):
            if isinstance(due, Happening):
                self._happened(due)
            elif due is Due.GIVE_UP:
                self._happened(self._protocol.end_connection("a frame was begun but not finished in time"))
            elif due is Due.PING:
                self._protocol.ping()
            elif due is Due.END_STREAMS:
                for running in self._running.values():
                    running.drain()
            elif due is Due.END_CALLS:
                for stream_id in list(self._arriving):
                    self._refuse_arriving(stream_id, shutting_down())
                for running in self._running.values():
                    running.end(shutting_down())
        for stream_id, each in list(self._arriving.items()):
            if now >= min(each.call.deadline, each.call.started_at + self._shared.limits.request_timeout_s):
                self._refuse_arriving(stream_id, RpcError(Code.DEADLINE_EXCEEDED, "the request did not arrive in time"))
        self._dispatch(self._protocol.reset_stalled(now))
        self._settle()
