"""Servers to test against, and what the one for Echo reported."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import trio

from tests.interop.echo import Echo
from tests.interop.testing_service import TestingService
from trio_grpc import CallContext, Code, GrpcLimits, GrpcServer, HealthService, Hooks, RpcError

HARD_LIMIT_S = 30.0
T = TypeVar("T")


@dataclass
class EchoServer:
    """A running server; everything it reports is kept."""

    port: int
    server: GrpcServer
    echo: Echo
    health: HealthService
    errors: list[tuple[str, str, Exception]] = field(default_factory=list)
    ended: list[CallContext] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def observe(self, call: CallContext) -> Iterator[None]:
        """Keep the calls that have ended."""
        try:
            yield
        finally:
            self.ended.append(call)
            self._news.set()
            self._news = trio.Event()

    def codes(self) -> list[Code]:
        """How the calls ended, in order."""
        return [call.code for call in self.ended]

    async def until_ended(self, count: int) -> None:
        """Until so many calls have ended."""
        while len(self.ended) < count:
            await self._news.wait()


def _map_exception(exception: Exception) -> RpcError | None:
    return RpcError(Code.NOT_FOUND, "mapped by the application") if type(exception) is LookupError else None


@asynccontextmanager
async def echo_server(
    limits: GrpcLimits | None = None,
    ssl_context: ssl.SSLContext | None = None,
    authorise: Callable[[CallContext], None] | None = None,
) -> AsyncIterator[EchoServer]:
    """A server on a free port, cut off at the end of the block; the block has a hard limit of time."""
    echo, health = Echo(), HealthService()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    running = EchoServer(listeners[0].socket.getsockname()[1], None, echo, health)  # type: ignore[arg-type]
    running.server = GrpcServer(
        [echo.service],
        limits=limits,
        health=health,
        hooks=Hooks(_map_exception, lambda *error: running.errors.append(error), running.observe, authorise),
    )
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(running.server.serve, listeners, None if ssl_context is None else lambda: ssl_context)
            yield running
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def server_of_cases() -> AsyncIterator[str]:
    """The address of a server of the cases' service. No handler is left at the end."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = GrpcServer([TestingService().service])
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, listeners)
            yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            await server.drain(grace_s=10)
            assert server.calls == 0
            nursery.cancel_scope.cancel()


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking client beside the server. It is abandoned when the hard limit strikes: it has its own timeouts."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


async def with_grpcio(server: EchoServer, use: Callable[[grpc.Channel], T]) -> T:
    """Run a client of grpcio's synchronous kind."""

    def client() -> T:
        with grpc.insecure_channel(server.address) as channel:
            return use(channel)

    return await in_thread(client)
