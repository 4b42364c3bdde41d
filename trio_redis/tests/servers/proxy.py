"""A TCP proxy in front of Redis that loses replies, hangs and cuts connections on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import trio


class Proxy:
    """``url`` leads through it. The switches are read as bytes pass."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self.url = ""
        self.port = 0
        self.connections = 0  # accepted so far
        self.lose_reply_to: bytes | None = None  # cut the connection instead of the reply to a request with these bytes
        self.lost = 0
        self.mute = False  # swallow what the server says, and keep the connection
        self.refuse = False  # accept, and close at once
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Cut all connections."""
        for scope in self._scopes:
            scope.cancel()

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        await trio.serve_listeners(self._connected, listeners, task_status=_Started(task_status))

    async def _connected(self, client: trio.SocketStream) -> None:
        self.connections += 1
        if self.refuse:
            await client.aclose()
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with client, await trio.open_tcp_stream(*self._target) as server:
                    await self._pass(client, server, scope)
            finally:
                self._scopes.discard(scope)

    async def _pass(self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope) -> None:
        losing = False

        async def requests() -> None:
            nonlocal losing
            async for data in client:
                if self.lose_reply_to is not None and self.lose_reply_to in data:
                    losing = True
                await server.send_all(data)
            scope.cancel()

        async def replies() -> None:
            async for data in server:
                if losing:
                    self.lost += 1
                    scope.cancel()
                    return
                if not self.mute:
                    await client.send_all(data)
            scope.cancel()

        with suppress(trio.BrokenResourceError, BaseExceptionGroup):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(requests)
                nursery.start_soon(replies)


class _Started:
    """serve_listeners tells the listeners; whoever waits for the proxy has no use for them."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status

    def started(self, _listeners: object = None) -> None:
        self._task_status.started()


@asynccontextmanager
async def open_proxy(target: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
