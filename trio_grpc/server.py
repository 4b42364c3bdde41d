"""A gRPC server for Trio."""

from __future__ import annotations

import math
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from os import PathLike
from typing import Any

import trio

from trio_grpc.connection import ServerConnection
from trio_grpc.context import CallContext, Peer
from trio_grpc.floods import PeerFloods
from trio_grpc.frames import COSTS, FloodBudget
from trio_grpc.health import HealthService
from trio_grpc.hooks import Hooks
from trio_grpc.lifecycle import calls_end_of_drain
from trio_grpc.limits import GrpcLimits
from trio_grpc.net import Account, Bound, Networks, PeerLimiter, ResourceKind, account_name, is_in
from trio_grpc.reflection import reflection_services
from trio_grpc.running import Method, ServerContext, methods_of
from trio_grpc.service import Service

_MAX_TICK_S = 1.0
_ACCEPTED_AT_ONCE = 16  # then others get their turn
_REFUSED_AT_ONCE = 64  # at about 25 µs, and then a pause: at most 16 % of a core
_REFUSED_PAUSE_S = 0.01  # new connections of others wait for so long during a flood
_ACCEPT_PAUSE_S = 1.0  # after an error, such as no descriptor left: the next attempt would meet it as well
_SAME_OUTAGE_S = 10.0  # a later error of this kind is reported again
_SMALL_MESSAGE_BYTES = 4096  # what requests of health and reflection may have
_BACKLOG = 4096  # the kernel lowers it to its own limit
_UCRED = struct.Struct("=iII")  # process, user, group: unix(7), SO_PEERCRED
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, with a timeout of 0
_STREAMS_SHARE = 0.75  # a quarter is for calls that end: health checks are answered however many only watch


BytesHandler = Callable[[AsyncIterator[bytes], CallContext], AsyncIterator[bytes]]


def open_unix_listener(path: str | PathLike[str], *, mode: int = 0o600) -> trio.SocketListener:
    """Listen on a Unix socket with these permissions. A socket that nothing listens on any more is replaced.

    Raises OSError, for example if another process listens there. The file stays when the listener is closed.
    """
    with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(os.fspath(path))
        os.chmod(path, mode)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


class GrpcServer:
    """Serves services over HTTP/2, along with health and reflection."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        limits: GrpcLimits | None = None,
        health: HealthService | None = None,
        hooks: Hooks | None = None,
        unknown: BytesHandler | None = None,
    ) -> None:
        """``unknown`` gets the calls of all other methods: the messages as bytes, and the context with the path. It
        yields the messages of the response. Without it they are answered UNIMPLEMENTED.
        """
        limits, hooks = limits or GrpcLimits(), hooks or Hooks()
        self._health = health or HealthService()
        own = [self._health.service]
        own += reflection_services([*services, *own])
        methods = methods_of(services, limits.max_message_bytes, hooks.around)
        methods |= methods_of(own, min(_SMALL_MESSAGE_BYTES, limits.max_message_bytes))
        self._shared = ServerContext(limits, methods, hooks, self._ended)
        if unknown is not None:
            self._shared.unknown = Method("", unknown, bytes, True, True, limits.max_message_bytes, bytes, hooks.around)
        of_streams = [max(int(_STREAMS_SHARE * bound), 1) for bound in (limits.max_calls, limits.max_calls_per_peer)]
        buffered_by_one = 2 * max(limits.max_message_bytes, limits.max_send_bytes)
        self._limiter = PeerLimiter(
            {
                ResourceKind.CONNECTIONS: Bound(limits.max_connections, limits.max_connections_per_peer),
                ResourceKind.CALLS: Bound(limits.max_calls, limits.max_calls_per_peer),
                ResourceKind.STREAMS: Bound(*of_streams),
                ResourceKind.BUFFERED_BYTES: Bound(limits.max_buffered_bytes, per_account=buffered_by_one),
            }
        )
        self._floods = PeerFloods(limits)
        self._connections: dict[Account, ServerConnection] = {}
        self._ssl_context: Callable[[], ssl.SSLContext] | None = None  # of `serve`
        self._accepting = trio.CancelScope()
        self._accept_failed_at = -math.inf
        self._pause_s = 0.0  # of the listeners
        self._drains_until: float | None = None
        self._ends = trio.lowlevel.ParkingLot()  # who waits for the end of a connection

    @property
    def methods(self) -> frozenset[str]:
        """The paths of all methods served."""
        return frozenset(self._shared.methods)

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._limiter.held(ResourceKind.CONNECTIONS)

    @property
    def calls(self) -> int:
        """Handlers that run."""
        return self._limiter.held(ResourceKind.CALLS)

    @property
    def streams(self) -> int:
        """Calls on the wire, those included whose request is still arriving or whose response is not yet taken."""
        return sum(connection.calls for connection in self._connections.values())

    async def serve(
        self,
        listeners: Iterable[trio.SocketListener],
        ssl_context: Callable[[], ssl.SSLContext] | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, or until a `drain` has ended; closes the listeners.

        With ``ssl_context`` only TLS with ALPN ``h2`` is served; it gives the context for a new connection, which must
        offer that protocol. A cancel cuts calls and connections at once.
        """
        self._ssl_context = ssl_context
        try:
            async with trio.open_nursery() as nursery:
                self._shared.nursery = nursery
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._shared.reactor.run)
                with self._accepting:
                    async with trio.open_nursery() as listening:
                        for listener in listeners:
                            _set_inherited(listener.socket, self._shared.limits)
                            listening.start_soon(self._listen, listener.socket)
                        task_status.started()
                while self.connections:
                    await self._ends.park()
                nursery.cancel_scope.cancel()
        finally:
            for connection in list(self._connections.values()):
                connection.close()

    async def drain(self, grace_s: float) -> None:
        """Refuse new connections and calls, and return when the last call has ended or ``grace_s`` seconds are over.

        Clients learn of it in time (GOAWAY twice, as gRPC wants it), so that none of their calls is lost. Streams of
        responses end with UNAVAILABLE at a message boundary, and whatever is left shortly before the end of the grace
        likewise. A cancel of this call leaves the drain going.
        """
        now = trio.current_time()
        until = self._drains_until = now + grace_s
        self._health.shut_down()
        self._accepting.cancel()
        for connection in list(self._connections.values()):
            connection.drain(grace_s)
        for deadline in (calls_end_of_drain(now, grace_s), until):
            with trio.move_on_at(deadline):
                while self.connections:
                    await self._ends.park()
            self._check(trio.current_time())

    def authorise_again(self) -> None:
        """Ask `Hooks.authorise` again about each open stream, because credentials have changed.

        A stream of requests or responses that it refuses now ends with that error. Other calls end by themselves, and
        are not asked about.
        """
        for connection in list(self._connections.values()):
            connection.authorise_again()

    # -- Connections

    async def _listen(self, listener: trio.socket.SocketType) -> None:
        reactor, paused = self._shared.reactor, trio.lowlevel.ParkingLot()
        with listener, socket.fromfd(listener.fileno(), listener.family, listener.type) as plain:
            try:
                while True:
                    reactor.watch(plain.fileno(), partial(self._accept, plain, paused))
                    await paused.park()
                    await trio.sleep(self._pause_s)
            finally:
                reactor.forget(plain.fileno())

    def _accept(self, listener: socket.socket, paused: trio.lowlevel.ParkingLot, _events: int) -> None:
        accepted = refused = 0
        self._pause_s = 0.0
        try:
            while accepted < _ACCEPTED_AT_ONCE and refused < _REFUSED_AT_ONCE:
                if self._accepted(*listener.accept()):
                    accepted += 1
                else:
                    refused += 1
                    self._pause_s = _REFUSED_PAUSE_S
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError as error:
            now = trio.current_time()
            if now - self._accept_failed_at >= _SAME_OUTAGE_S:
                self._shared.hooks.report("accept", error)
            self._accept_failed_at = now
            self._pause_s = _ACCEPT_PAUSE_S
        if self._pause_s:
            self._shared.reactor.forget(listener.fileno())
            paused.unpark()

    def _accepted(self, plain: socket.socket, address: Any) -> bool:
        """Serve a connection. Return False if it was refused, because its peer has no flood units left."""
        proxies = self._shared.limits.proxies
        peer, limited_as = _peer_of(plain, address, proxies)
        is_proxy = plain.family != socket.AF_UNIX and is_in(address[0], proxies)
        spent = (COSTS.CONNECTION if self._ssl_context is None else COSTS.TLS_CONNECTION).flood
        of_peer = self._floods.admit(limited_as, spent, trio.current_time(), is_proxy=is_proxy)
        if of_peer is None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)  # a reset, which keeps nothing of it
            plain.close()
            return False
        self._connected(plain, peer, self._limiter.account(limited_as), of_peer, spent + COSTS.START.flood)
        return True

    def _connected(
        self, plain: socket.socket, peer: Peer, account: Account, of_peer: FloodBudget, opening: int
    ) -> None:
        if self._limiter.is_scarce(ResourceKind.CONNECTIONS) and self._drains_until is None:
            idle = [connection for connection in self._connections.values() if connection.idle_since < math.inf]
            if idle:
                min(idle, key=lambda connection: connection.idle_since).retire()
        plain.setblocking(False)
        try:
            if self._drains_until is not None or not account.take(connections=1):
                self._ended(account, plain)
                return
            if self._ssl_context is not None:
                context = self._ssl_context()
                try:
                    plain = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
                except OSError:  # the client has left
                    self._ended(account, plain)
                    return
            self._connections[account] = ServerConnection(self._shared, plain, peer, account, of_peer, opening)
        except Exception as error:  # noqa: BLE001 - a bug met on one connection must not end the others
            self._shared.hooks.report("connection", error)
            self._ended(account, plain)

    def _ended(self, account: Account, plain: socket.socket) -> None:
        self._connections.pop(account, None)
        account.close()
        plain.close()
        self._ends.unpark_all()

    async def _keep_time(self) -> None:
        shortest_s = min(value for name, value in asdict(self._shared.limits).items() if name.endswith("timeout_s"))
        tick_s = min(_MAX_TICK_S, shortest_s / 4)
        while True:
            await trio.sleep(tick_s)
            self._check(trio.current_time())

    def _check(self, now: float) -> None:
        for connection in list(self._connections.values()):
            connection.check(now)


def _peer_of(connection: socket.socket, address: Any, proxies: Networks) -> tuple[Peer, str]:
    """Return who connects, and the name that its limits go by."""
    if connection.family == socket.AF_UNIX:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        process, user, _group = _UCRED.unpack(credentials)
        return Peer(f"unix:{process}", user_id=user), f"unix:{user}"
    host, port = address[:2]  # of IPv6 it has more
    return Peer(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), account_name(host, port, proxies)


def _set_inherited(listener: trio.socket.SocketType, limits: GrpcLimits) -> None:
    """Set the options that its connections inherit."""
    if listener.family == socket.AF_UNIX:
        return
    unacknowledged_s = limits.keepalive_interval_s + limits.keepalive_timeout_s  # then the other host is gone
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unacknowledged_s * 1000))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, 16 << 10)  # as Trio does
