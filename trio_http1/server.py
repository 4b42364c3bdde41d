"""The HTTP server, and its connections: each is a loop around h11, in one task.

A request is read, handled and answered before the next one is read. So a client occupies at most one request's head,
one window of a body, and 64 KiB that it sent ahead. Every wait for a client has a deadline:

| state   | waits for                                  | deadline                     | then         |
|---------|--------------------------------------------|------------------------------|--------------|
| –       | the TLS handshake, if there is TLS         | `handshake_timeout_s`        | close        |
| IDLE    | the first byte of a request                | `keep_alive_s`               | close        |
| HEAD    | the end of its head                        | `head_timeout_s` in total    | 408, close   |
| BODY    | the end of its body, if the handler reads  | `body_timeout_s` in total    | 408, close   |
| HANDLER | the handler; it ends if the client leaves  | the handler's own;           | reset        |
|         |                                            | `half_closed_s` after a FIN  |              |
| SENDING | the client's socket to take the response   | `write_timeout_s` per 64 KiB | reset        |
| CLOSING | the client to read the final output        | 1 s                          | close        |

Decision: no task per connection watches for a disconnect while a handler runs. Reading does not show a FIN behind
pipelined requests. Instead, one task asks the kernel about all connections (`Hangups`).
"""

from __future__ import annotations

import logging
import math
import os
import select
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from email.utils import formatdate
from enum import Enum, auto
from functools import lru_cache
from typing import TypeVar

import h11
import trio

from trio_grpc.net import Bound, PeerLimiter, ResourceKind, account_name, is_in, peer_at
from trio_http1.messages import (
    Body,
    BodyLost,
    HttpLimits,
    Request,
    RequestRefused,
    Response,
    check,
    client_behind,
    decoded,
    encoded,
    linger,
    reset_at_close,
    send_steadily,
    target_of,
)
from trio_http1.tls import Tls

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

_READ_BYTES = 64 << 10
_UNSENT_BYTES = 16 << 10  # of a connection, in the kernel; set by Trio
_UNSENT_FAST_BYTES = 1 << 20
_HANGUP_CHECK_S = 0.25
_INTERNAL_ERROR = 500
_WITHOUT_BODY = (204, 304)
_CLOSE = (b"Connection", b"close")

_log = logging.getLogger("trio_http1")


class HttpState(Enum):
    """The state of a connection. ``ANSWERING`` is BODY, HANDLER and SENDING in the table above."""

    IDLE = auto()
    HEAD = auto()
    ANSWERING = auto()
    CLOSING = auto()


class Hangups(dict[int, tuple[trio.CancelScope, float]]):
    """Cancels work for clients that have left: `watch` checks all sockets, four times a second.

    By descriptor it has the scope to cancel, and for how many seconds the work goes on if the client has only closed
    its side: such a client may have left, or may wait for the response (RFC 9112, 9.6). A reset is sure.
    """

    async def watch(self) -> None:
        """Check all sockets. Never returns."""
        while True:
            await trio.sleep(_HANGUP_CHECK_S)
            if self:
                poll = select.poll()
                for fd in self:
                    poll.register(fd, select.POLLRDHUP)
                for fd, events in poll.poll(0):
                    scope, grace_s = self[fd]
                    left_s = 0.0 if events & (select.POLLERR | select.POLLHUP) else grace_s
                    scope.deadline = min(scope.deadline, trio.current_time() + left_s)


class Cut(Exception):
    """The connection ends at once: the client has left, or must notice that its body is incomplete."""


class HttpConnection:
    """One client's connection. `run` serves it to its end, and closes only our side."""

    def __init__(self, stream: trio.SocketStream, host: str, server: HttpServer, tls: Tls | None = None) -> None:
        self._stream = stream
        self._tls = tls
        self._socket = stream.socket
        self._peer = peer_at(host)
        self._is_proxy = is_in(host, server.limits.proxies)
        self._server = server
        self._limits = server.limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=server.limits.max_head_bytes)
        self._fd = stream.socket.fileno()
        self._serving = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self._state = HttpState.IDLE
        self._since = trio.current_time()
        self._unsent_bytes = _UNSENT_BYTES

    @property
    def idle_since(self) -> float:
        """Since when there is no request, not even a part of one; infinite if there is."""
        return self._since if self._state is HttpState.IDLE else math.inf

    @property
    def is_answering(self) -> bool:
        """Whether a request has come whose response has not ended."""
        return self._state is HttpState.ANSWERING

    def close_if_idle(self) -> None:
        """Close the connection now, unless a request has begun."""
        if self._state is HttpState.IDLE:
            self._waiting.cancel()

    async def run(self) -> None:
        """Serve requests, one after another."""
        try:
            if self._tls is not None and (early := self._tls.decrypted(b"")):  # it came with the end of the handshake
                self._h11.receive_data(early)
            with self._serving:
                while await self._serve_one():
                    pass  # a client may send many requests at once, so each write lets other tasks run
            if self._serving.cancelled_caught:
                raise Cut
        except Cut:
            reset_at_close(self._stream)
            return
        except (OSError, trio.BrokenResourceError):
            return
        finally:
            self._answered(HttpState.CLOSING)
        if self._tls is not None:
            await send_steadily(self._stream, [self._tls.ending()], self._limits.write_timeout_s)
        await linger(self._stream)

    async def _serve_one(self) -> bool:
        """Serve one request. Return whether another may follow."""
        try:
            head = await self._read_head()
            if head is None:
                return False
            request = self._request(head)
            try:
                response = await self._while_connected(self._server.handler(request), self._limits.half_closed_s)
            except (RequestRefused, Cut):  # while it read the request's body
                raise
            except Exception:  # noqa: BLE001 - it becomes a 500 for its client, without effect on others
                _log.error("http.handler_failed", exc_info=True)
                response = Response(_INTERNAL_ERROR, {**self._server.refusal_headers, "Cache-Control": "no-store"})
        except RequestRefused as refusal:
            await self._refuse(refusal.status)
            return False
        await self._send(head, response)
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._answered(HttpState.IDLE)
        return True

    def _answered(self, state: HttpState) -> None:
        self._state, self._since = state, trio.current_time()
        self._server.answered.unpark_all()

    # -- receiving

    async def _read_head(self) -> h11.Request | None:
        """Return the next request's head; None if the client sends none."""
        self._state = HttpState.HEAD if self._h11.trailing_data[0] else HttpState.IDLE
        if self._state is HttpState.IDLE and self._server.draining:
            return None
        event = self._received() if self._state is HttpState.IDLE else self._next_event()  # often all of it has come
        if event is h11.NEED_DATA:
            wait_s = self._limits.keep_alive_s if self._state is HttpState.IDLE else self._limits.head_timeout_s
            with trio.CancelScope(deadline=trio.current_time() + wait_s) as self._waiting:
                while event is h11.NEED_DATA:
                    await trio.lowlevel.wait_readable(self._fd)
                    event = self._received()
            if self._waiting.cancelled_caught and self._state is HttpState.HEAD:
                raise RequestRefused(408)
        return event if isinstance(event, h11.Request) else None

    def _received(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Read what has come of a head. Return the head, NEED_DATA if more is to come, or PAUSED if nothing will."""
        with suppress(BlockingIOError):
            data = os.read(self._fd, _READ_BYTES)
            if not data:
                return h11.PAUSED
            if self._tls is not None:
                data = self._tls.decrypted(data)
            if not data:
                return h11.PAUSED if self._tls is not None and self._tls.is_ended else h11.NEED_DATA
            if self._state is HttpState.IDLE:
                self._state = HttpState.HEAD
                self._waiting.deadline = trio.current_time() + self._limits.head_timeout_s
            self._h11.receive_data(data)
            return self._next_event()
        return h11.NEED_DATA

    async def _while_connected(self, work: Awaitable[T], half_closed_s: float) -> T:
        """Return its result. If the client leaves meanwhile, the connection is cancelled (see `Hangups`)."""
        self._server.hangups[self._fd] = self._serving, half_closed_s
        try:
            return await work
        finally:
            del self._server.hangups[self._fd]
            self._serving.deadline = math.inf

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise RequestRefused(error.error_status_hint) from None

    def _request(self, head: h11.Request) -> Request:
        check(head, self._limits)
        path, query = target_of(head)
        self._state = HttpState.ANSWERING
        headers, peer = decoded(head.headers), self._peer
        if self._is_proxy:
            peer = client_behind(headers.get("x-forwarded-for", ""), peer, self._limits.proxies)
        return Request(head.method.decode("ascii"), path, query, headers, peer, self._read_body, self._is_proxy)

    async def _read_body(self) -> bytes:
        body = bytearray()
        with trio.move_on_after(self._limits.body_timeout_s) as slow:
            if self._h11.they_are_waiting_for_100_continue:
                await self._write([self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b""])
            while not isinstance(event := self._next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    body += event.data
                    continue
                self._h11.receive_data(await self._received_of_body())
        if slow.cancelled_caught:
            raise RequestRefused(408)
        return bytes(body)

    async def _received_of_body(self) -> bytes:
        """Return more of what the client sends. Raises `Cut` if there is no more."""
        with suppress(OSError):
            while data := await self._socket.recv(_READ_BYTES):
                if self._tls is not None:
                    data = self._tls.decrypted(data)
                if data:
                    return data
                if self._tls is not None and self._tls.is_ended:
                    break
        raise Cut

    def _has_whole_request(self) -> bool:
        """Return whether the request was received completely. Reads only what h11 already has."""
        try:
            while self._h11.their_state is h11.SEND_BODY:
                if self._h11.next_event() is h11.NEED_DATA:
                    return False
        except h11.RemoteProtocolError:
            return False
        return True

    # -- sending

    async def _refuse(self, status: int) -> None:
        """Send a last response, without a handler."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = {"Cache-Control": "no-store", **self._server.refusal_headers, "Content-Length": "0"}
            head = h11.Response(status_code=status, headers=[*encoded(headers), _CLOSE, _date(int(time.time()))])
            await self._write([self._h11.send(head) or b""])

    async def _send(self, request: h11.Request, response: Response) -> None:
        """Send the whole response. Its head is sent in one write with the first bytes of its body."""
        body = response.body
        try:
            pieces = [self._h11.send(self._head(response)) or b""]
            if request.method == b"HEAD" or response.status in _WITHOUT_BODY:
                pass
            elif isinstance(body, bytes):
                pieces += self._pieces(h11.Data(data=body))
            elif body.length_bytes is not None:
                pieces = await self._send_windows(body, pieces)
            else:  # it may be endless, and pause between two windows
                pieces = await self._while_connected(self._send_windows(body, pieces), 0.0)
            await self._write(pieces + self._pieces(h11.EndOfMessage()))
        except BodyLost as error:
            _log.warning("http.body_lost", extra={"error": str(error)})
            raise Cut from error
        except (Cut, OSError, trio.BrokenResourceError):
            raise
        except Exception as error:  # a wrong length (h11 refuses to end the response then), or a bug in the body
            _log.error("http.body_failed", exc_info=True)
            raise Cut from error
        finally:
            if not isinstance(body, bytes):
                body.close()

    async def _send_windows(self, body: Body, pieces: list[bytes]) -> list[bytes]:
        """Send each window, the first one after ``pieces``. Return the pieces if there was no window.

        A body has large windows only for a client that reads fast. The kernel may take more of these than it can send
        yet: such a client would wake us every 200 KiB, which costs more than copying them.
        """
        async with aclosing(body.windows()) as windows:
            async for window in windows:
                if callable(window) and self._tls is not None:
                    continue  # it would send plain text
                is_fast = callable(window) or len(window) >= _UNSENT_FAST_BYTES
                unsent_bytes = _UNSENT_FAST_BYTES if is_fast else _UNSENT_BYTES
                if unsent_bytes != self._unsent_bytes:
                    self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent_bytes)
                    self._unsent_bytes = unsent_bytes
                if callable(window):
                    sent = await window(self._stream, self._limits.write_timeout_s)
                    self._pieces(h11.Data(data=range(sent)))  # type: ignore[arg-type] # h11 counts its length
                    continue
                data = h11.Data(data=window)  # type: ignore[arg-type] # its stubs know of bytes only
                await self._write(pieces + self._pieces(data))
                pieces = []
        return pieces

    def _head(self, response: Response) -> h11.Response:
        lines = encoded(response.headers)
        if response.status not in _WITHOUT_BODY and "Content-Length" not in response.headers:
            length = len(response.body) if isinstance(response.body, bytes) else response.body.length_bytes
            if length is not None:
                lines.append((b"Content-Length", b"%d" % length))
        if self._server.draining or not self._has_whole_request():
            lines.append(_CLOSE)
        return h11.Response(status_code=response.status, headers=[*lines, _date(int(time.time()))])

    def _pieces(self, event: h11.Data | h11.EndOfMessage) -> list[bytes]:
        return self._h11.send_with_data_passthrough(event) or []

    async def _write(self, pieces: list[bytes]) -> None:
        of_tls = None if self._tls is None else self._tls.encrypted(pieces)
        for each in [pieces] if of_tls is None else ([piece] for piece in of_tls):
            if each and not await send_steadily(self._stream, each, self._limits.write_timeout_s):
                raise Cut


@lru_cache(maxsize=1)
def _date(now_s: int) -> tuple[bytes, bytes]:
    """The ``Date`` field, formatted once a second."""
    return b"Date", formatdate(now_s, usegmt=True).encode()


class HttpServer:
    """Serves one handler. `drain` lets running requests end; a cancel of `serve` cuts them.

    ``refusal_headers`` go with every response that the server makes itself.
    """

    def __init__(
        self, handler: Handler, limits: HttpLimits, *, refusal_headers: Mapping[str, str] | None = None
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.refusal_headers = refusal_headers or {}
        self.hangups = Hangups()
        self.draining = False
        self.answered = trio.lowlevel.ParkingLot()  # unparked whenever a response has ended
        self._limiter = PeerLimiter(
            {ResourceKind.CONNECTIONS: Bound(limits.max_connections, limits.max_connections_per_peer)}
        )
        self._open: set[HttpConnection] = set()
        self._accepting = trio.CancelScope()
        self.ssl_context: Callable[[], ssl.SSLContext] | None = None
        """Gives the context for a new connection, which then must use TLS. Set it before `serve`."""

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._limiter.held(ResourceKind.CONNECTIONS)

    @property
    def requests(self) -> int:
        """Requests whose response has not ended."""
        return sum(connection.is_answering for connection in self._open)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept connections until cancelled or drained. Closes the listeners."""
        async with trio.open_nursery() as watching:
            watching.start_soon(self.hangups.watch)
            async with trio.open_nursery() as connections:
                with self._accepting:
                    await trio.serve_listeners(self._connection, list(listeners), handler_nursery=connections)
            watching.cancel_scope.cancel()

    async def drain(self, grace_s: float) -> None:
        """Accept nothing new, close idle connections, and wait up to ``grace_s`` for running requests.

        Responses that begin from now on have ``Connection: close``.
        """
        self._accepting.cancel()
        self.draining = True
        for connection in list(self._open):
            connection.close_if_idle()
        with trio.move_on_after(grace_s):
            while self.requests:
                await self.answered.park()

    async def _serve_client(self, stream: trio.SocketStream, host: str) -> None:
        tls = None
        if self.ssl_context is not None:
            tls = Tls(self.ssl_context())
            try:
                with trio.fail_after(self.limits.handshake_timeout_s):
                    await tls.shake_hands(stream)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError):
                return  # the client has left, is too slow, or knows why by the alert
        connection = HttpConnection(stream, host, self, tls)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    async def _connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection. All of its errors end here."""
        if self._limiter.is_scarce(ResourceKind.CONNECTIONS):
            longest_idle = min(self._open, key=lambda connection: connection.idle_since, default=None)
            if longest_idle is not None:
                longest_idle.close_if_idle()
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:  # the client has left
            await trio.aclose_forcefully(stream)
            return
        account = self._limiter.account(account_name(host, port, self.limits.proxies))
        try:
            if account.take(connections=1):
                await self._serve_client(stream, host)
        except Exception:  # noqa: BLE001 - an error of one client must not end the server
            _log.error("http.connection_failed", exc_info=True)
        finally:
            account.close()
            await trio.aclose_forcefully(stream)
