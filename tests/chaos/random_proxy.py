"""A TCP proxy that cuts, delays and half-closes connections, and loses replies. On Trio, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import count

import trio

_CONNECT_S = 5.0


class Mode(StrEnum):
    """What the proxy does to connections, open and new ones."""

    PASS = "pass"
    CUT = "cut"  # all are closed, and none is accepted
    DELAY = "delay"  # every piece of data, in both directions
    HALF_CLOSE = "half-close"  # one direction of open connections is closed, the other continues
    LOSE_REPLIES = "lose replies"  # requests pass, replies do not


class _Connection:
    """One client and its own connection to the target. ``tampered``: bytes are missing, so it is useless."""

    def __init__(self, client: trio.SocketStream, target: trio.SocketStream) -> None:
        self.client = client
        self.target = target
        self.scope = trio.CancelScope()
        self.tampered = False


class Proxy:
    """A proxy in front of one TCP service. `set_mode` can be called in any thread."""

    def __init__(self, target_port: int, listener: trio.SocketListener) -> None:
        self.port: int = listener.socket.getsockname()[1]
        self._listener = listener
        self._target_port = target_port
        self._token = trio.lowlevel.current_trio_token()
        self._mode = Mode.PASS
        self._delay_s = 0.0
        self._connections: set[_Connection] = set()
        self._turn = count()
        self._stopping = trio.CancelScope()

    def set_mode(self, mode: Mode, delay_s: float = 0.0) -> None:
        """Change the mode now. Connections that the former mode tampered with are cut."""
        trio.from_thread.run_sync(self._set_mode, mode, delay_s, trio_token=self._token)

    def stop(self) -> None:
        """Cut all connections and accept no more."""
        trio.from_thread.run_sync(self._stopping.cancel, trio_token=self._token)

    async def serve(self) -> None:
        """Serve until `stop`."""
        with self._stopping:
            await trio.serve_listeners(self._serve_client, [self._listener])

    def _set_mode(self, mode: Mode, delay_s: float) -> None:
        self._mode, self._delay_s = mode, delay_s
        for each in list(self._connections):
            if each.tampered or mode is Mode.CUT:
                each.scope.cancel()
            elif mode is Mode.HALF_CLOSE:
                self._half_close(each)

    def _half_close(self, connection: _Connection) -> None:
        connection.tampered = True
        side = connection.client if next(self._turn) % 2 else connection.target
        with suppress(OSError):
            side.socket.shutdown(trio.socket.SHUT_WR)

    async def _serve_client(self, client: trio.SocketStream) -> None:
        async with client:
            if self._mode is Mode.CUT:
                return
            target = await self._connect()
            if target is not None:
                async with target:
                    await self._forward(_Connection(client, target))

    async def _connect(self) -> trio.SocketStream | None:
        with trio.move_on_after(_CONNECT_S), suppress(OSError):
            return await trio.open_tcp_stream("127.0.0.1", self._target_port)
        return None

    async def _forward(self, connection: _Connection) -> None:
        self._connections.add(connection)
        try:
            with connection.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, connection, connection.client, connection.target, False)
                    nursery.start_soon(self._pump, connection, connection.target, connection.client, True)
        finally:
            self._connections.discard(connection)

    async def _pump(
        self, connection: _Connection, source: trio.SocketStream, sink: trio.SocketStream, is_reply: bool
    ) -> None:
        try:
            async for data in source:
                if self._mode is Mode.DELAY:
                    await trio.sleep(self._delay_s)
                if is_reply and (self._mode is Mode.LOSE_REPLIES):
                    connection.tampered = True
                    continue
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            if not connection.tampered:  # a half-closed one continues in its other direction
                connection.scope.cancel()


@contextmanager
def open_proxies(*target_ports: int) -> Iterator[list[Proxy]]:
    """Open a proxy on a free port for each of these ports of 127.0.0.1."""
    opened: list[Proxy] = []
    are_open = threading.Event()

    async def run() -> None:
        for port in target_ports:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            opened.append(Proxy(port, listener))
        are_open.set()
        async with trio.open_nursery() as nursery:
            for proxy in opened:
                nursery.start_soon(proxy.serve)

    thread = threading.Thread(target=trio.run, args=(run,), daemon=True)
    thread.start()
    try:
        assert are_open.wait(10)
        yield opened
    finally:
        for proxy in opened:
            proxy.stop()
        thread.join(10)
        assert not thread.is_alive()
