"""The driver of one connection: it reads, calls the protocol core, starts handlers, and writes.

Only handlers are tasks. Everything else is done when the socket is ready (`Reactor`), when a handler has an answer,
or when a deadline has come; it never waits. A unary request gets a handler only when it is complete, so a client that
sends slowly occupies a stream, but no handler.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from trio_grpc.context import CallContext, Peer
from trio_grpc.frames import FIRST_TURN, LATER_TURN, FloodBudget
from trio_grpc.lifecycle import PIECE_BYTES, ConnectionLife, ConnectionState, Due, Happening
from trio_grpc.net import Account
from trio_grpc.net.reactor import GONE, READ, WRITE
from trio_grpc.protocol import Protocol
from trio_grpc.running import RunningCall, ServerContext, shutting_down
from trio_grpc.status import Code, RpcError
from trio_grpc.stream import CallBegun, CallGone, Event, MessageReceived, RequestEnded, ResponseTaken

_READ_BYTES = 64 << 10  # more than a record of TLS has: OpenSSL keeps nothing that epoll would not report
_MAX_ECHOED = 100  # characters of an unknown path in logs
_MAX_UNSENT_BYTES = 512 << 10  # nothing is read from a client that does not read, because each frame may need an answer
_SENDS_NOTHING = (ConnectionState.HANDSHAKE, ConnectionState.LINGER, ConnectionState.CLOSED)
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ServerConnection:
    """One client's connection, over a socket that does not block; over TLS if it is an `ssl.SSLSocket`.

    It lasts until `ServerContext.ended` is called. To cut it off, end its handlers, and `close` it.
    """

    def __init__(
        self,
        shared: ServerContext,
        socket: socket.socket,
        peer: Peer,
        account: Account,
        of_peer: FloodBudget | None = None,
        opening: int = 0,
    ) -> None:
        """``of_peer``: the flood units of the peer. The first message restores ``opening`` of them."""
        now = trio.current_time()
        self._shared = shared
        self._socket = socket
        self._fd = socket.fileno()
        self._peer = peer
        self._account = account
        self._protocol = Protocol(shared.limits, account, shared.max_message_bytes, now, of_peer, opening)
        self._life = ConnectionLife(shared.limits, now, is_tls=isinstance(socket, ssl.SSLSocket))
        self._arriving: dict[int, RunningCall] = {}  # unary requests that are not complete
        self._running: dict[int, RunningCall] = {}
        self._unsent = memoryview(b"")
        self._is_behind = False  # the client must read before it sends more
        self._is_closed = False
        shared.reactor.watch(self._fd, partial(self._act, self._ready))

    @property
    def calls(self) -> int:
        """Calls that have not ended, arriving ones included."""
        return self._protocol.calls

    @property
    def idle_since(self) -> float:
        """When the last call ended, or the connection began; infinite during a call, or once the end has begun."""
        return self._life.idle_since(self._protocol.calls)

    def close(self) -> None:
        """Release everything. To be called once, when no handler is left."""
        self._is_closed = True
        self._send_close_notify()
        self._shared.reactor.forget(self._fd)
        self._protocol.close()
        self._shared.ended(self._account, self._socket)

    def _send_close_notify(self) -> None:
        """End our output of TLS, so that the client knows that nothing was cut off (RFC 8446, 6.1). Once; never waits.

        The client's own is not awaited. After an error of TLS, or of the socket, there is nothing to send.
        """
        if isinstance(self._socket, ssl.SSLSocket):
            with suppress(OSError, ValueError):  # ValueError: TLS has ended already
                self._socket.unwrap()

    def _act(self, function: Callable[..., None], *args: Any) -> None:
        """Do something, unless it is closed. A bug met ends the connection, but no other."""
        if self._is_closed:
            return
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - any bug
            self._failed(error)
        if self._life.state is ConnectionState.CLOSED and not self._running:
            self.close()

    def _failed(self, bug: Exception) -> None:
        self._shared.hooks.report("connection", bug)
        self._happened(Happening.GONE)

    def _happened(self, happening: Happening) -> None:
        state = self._life.happened(happening, trio.current_time())
        if state is ConnectionState.GOAWAY_SENT:
            self._protocol.begin_drain()
        elif state is ConnectionState.LAST_CALLS:
            self._protocol.finish_drain()
        elif state is ConnectionState.LINGER:
            self._send_close_notify()
            with suppress(OSError):  # the client has left: the next read says so
                self._socket.shutdown(socket.SHUT_WR)
        elif state is ConnectionState.CLOSED and self._running:
            self._shared.reactor.forget(self._fd)  # and it closes when they have ended
        if not self._life.is_reading:
            for stream_id in list(self._arriving):
                self._gone(CallGone(stream_id))
            for running in self._running.values():
                running.gone(running.call.code)
        self._settle()

    # -- Reading and writing

    def _ready(self, events: int) -> None:
        if events & GONE and not events & READ:  # else the read says so, behind what is left to read
            self._happened(Happening.GONE)
        elif self._life.state is ConnectionState.HANDSHAKE:
            self._shake_hands()
        else:
            if events & WRITE:
                self._write()
                if self._is_behind and self._unsent_bytes < _MAX_UNSENT_BYTES:
                    self._is_behind = False
                    self._life.resume(trio.current_time())
                    self._go_on()
                self._settle()
            if events & READ:
                self._read()

    def _shake_hands(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except _NOT_NOW as error:
            self._shared.reactor.change(self._fd, WRITE if isinstance(error, ssl.SSLWantWriteError) else READ)
        except OSError:
            self._happened(Happening.FAILED)
        else:
            self._peer = Peer(self._peer.address, self._socket.getpeercert() or None)
            self._happened(Happening.SECURED if self._socket.selected_alpn_protocol() == "h2" else Happening.FAILED)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except ssl.SSLWantWriteError:  # TLS must answer first
            self._shared.reactor.change(self._fd, WRITE)
            return
        except _NOT_NOW:
            return
        except OSError:
            data = b""
        if not data:
            self._happened(Happening.GONE)
        elif self._life.is_reading:
            now = trio.current_time()
            self._life.received(now)
            self._turn(data, FIRST_TURN, now)

    def _go_on(self) -> None:
        if self._life.is_reading and not self._is_behind:
            self._turn(b"", LATER_TURN, trio.current_time())

    def _turn(self, data: bytes, work: int, now: float) -> None:
        """Handle what was read, and what is left of it in later turns, so that other connections get theirs."""
        watch = self._protocol.watch
        before = watch.begun
        self._dispatch(self._protocol.receive(data, now, work))
        if self._protocol.settled and self._life.state is ConnectionState.PREFACE:
            self._life.happened(Happening.SETTLED, now)
        self._life.owes(not self._protocol.settled or watch.mid_frame, watch.begun != before, now)
        self._settle()
        if watch.has_more and not self._is_behind:
            self._shared.reactor.later(partial(self._act, self._go_on))

    @property
    def _unsent_bytes(self) -> int:
        return len(self._unsent) + self._protocol.output_bytes

    def _settle(self) -> None:
        """Update the state, because the last call may have ended; write, and wait for what is possible next."""
        if self._life.state is ConnectionState.LAST_CALLS and not self._protocol.calls and not self._running:
            self._happened(Happening.LAST_CALL_ENDED)
        if self._life.state in _SENDS_NOTHING:
            if self._life.state is ConnectionState.LINGER:
                self._shared.reactor.change(self._fd, READ)
            return
        # A call that ends alone is answered at once, which saves turns of Trio's loop. But several may end in one turn:
        # then all are written once the socket is reported ready.
        if len(self._running) <= 1 and not self._unsent:
            self._write()
        elif self._protocol.collect():
            self._life.sent(0, self._unsent_bytes, trio.current_time())
        if self._life.state is ConnectionState.CLOSING and not self._unsent_bytes:
            self._happened(Happening.WRITTEN)
        self._wait()

    def _wait(self) -> None:
        """Wait for what can be done next."""
        state, unsent_bytes = self._life.state, self._unsent_bytes
        if unsent_bytes >= _MAX_UNSENT_BYTES and not self._is_behind:
            self._is_behind = True
            self._life.pause()
        events = WRITE if unsent_bytes or self._is_behind else 0
        if state is not ConnectionState.CLOSING and not (self._is_behind or self._protocol.watch.has_more):
            events |= READ
        if state is not ConnectionState.CLOSED:
            self._shared.reactor.change(self._fd, events)

    def _write(self) -> None:
        """Write as much as the socket takes."""
        count = 1
        self._unsent = self._unsent or memoryview(self._protocol.take_output())
        while self._unsent and count:
            now = trio.current_time()
            try:
                count = self._socket.send(self._unsent[:PIECE_BYTES])  # TLS reports no part of it
            except _NOT_NOW:
                count = 0
            except OSError:
                self._happened(Happening.GONE)
                break
            self._unsent = self._unsent[count:]
            self._life.sent(count, len(self._unsent), now)
            if not self._unsent:
                self._dispatch(self._protocol.written(now))
                if self._protocol.output_bytes:
                    self._unsent = self._unsent or memoryview(self._protocol.take_output())

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
        method = self._shared.method(head.path)
        if head.http_refusal is not None:
            self._protocol.send_http_refusal(stream_id, head.http_refusal)
            self._note(call, Code.UNKNOWN)  # as gRPC clients interpret 405 and 415
        elif refusal is not None:
            self._refuse(stream_id, call, refusal)
        elif method is None:
            self._refuse(stream_id, call, RpcError(Code.UNIMPLEMENTED, f"unknown method {head.path[:_MAX_ECHOED]}"))
        else:
            settle = partial(self._act, self._settle)
            running = RunningCall(call, method, stream_id, self._protocol, self._shared, settle)
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
        if not self._life.is_reading:  # it was about to end when this call came
            return
        if not self._account.take(**running.method.takes):
            full = RpcError(Code.RESOURCE_EXHAUSTED, "too many concurrent calls; retry with backoff", retry_after_s=1.0)
            self._refuse(running.stream_id, running.call, full)
            return
        if self._life.ends_streams(trio.current_time()):
            running.drain()
        self._running[running.stream_id] = running
        self._shared.nursery.start_soon(self._run, running, name=running.call.method)

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
        except Exception as error:  # noqa: BLE001 - any bug
            self._failed(error)
        finally:
            del self._running[running.stream_id]
            self._life.busy(trio.current_time())
            # While others run, the next one that ends does it, with its own response.
            if not self._running and (self._unsent_bytes or self._life.state is not ConnectionState.OPEN):
                self._act(self._settle)

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

    def authorise_again(self) -> None:
        """End the calls that may last and are no longer allowed."""
        for running in list(self._running.values()):
            refusal = self._shared.hooks.refusal_of(running.call) if running.method.may_last else None
            if refusal is not None:
                running.end(refusal)
        self._act(self._settle)

    def check(self, now: float) -> None:
        """Enforce the deadlines. The server calls it repeatedly."""
        self._act(self._check, now)

    def _check(self, now: float) -> None:
        for due in self._life.due(now, self._protocol.calls):
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
