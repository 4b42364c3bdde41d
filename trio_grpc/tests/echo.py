"""A service of all four kinds of methods, and a server for it. Its messages are protobuf's own `BytesValue`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc.error_details_pb2 import BadRequest

from trio_grpc import (
    CallContext,
    Cardinality,
    Channel,
    Code,
    GrpcServer,
    RpcError,
    RPCSignature,
    Service,
    open_channel,
)

HARD_LIMIT_S = 20.0


@dataclass
class Echo:
    """``contexts`` are the calls that came, ``cancelled`` counts the handlers that a cancel ended."""

    contexts: list[CallContext] = field(default_factory=list)
    cancelled: int = 0
    released: trio.Event = field(default_factory=trio.Event)
    _news: trio.Event = field(default_factory=trio.Event)

    async def until(self, condition: Any) -> None:
        """Wait until the condition about this object holds."""
        while not condition(self):
            await self._news.wait()

    def _notify(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def say(self, request: BytesValue, context: CallContext) -> BytesValue:
        """Send back the request, or do what it says."""
        self.contexts.append(context)
        self._notify()
        for name, value in context.metadata.items():
            if name.startswith("x-"):
                context.send_initial_metadata([(name, value)])
                context.add_trailing_metadata([(name, value)])
        context.compress = True
        match request.value:
            case b"wait":
                await self._wait()
            case b"refuse":
                violation = BadRequest.FieldViolation(field="value", description="bad")
                details = [BadRequest(field_violations=[violation])]
                raise RpcError(Code.INVALID_ARGUMENT, "50 % of «it» is bad\n", details, retry_after_s=2.5)
            case b"many":
                return BytesValue(value=bytes(5 << 20))
        return request

    async def _wait(self) -> None:
        try:
            await self.released.wait()
        except trio.Cancelled:
            self.cancelled += 1
            self._notify()
            raise

    async def repeat(self, request: BytesValue, context: CallContext) -> AsyncIterator[BytesValue]:
        """Send the request back ten times, then wait."""
        try:
            for _ in range(10):
                yield request
            await self.released.wait()
        except (trio.Cancelled, GeneratorExit):
            self.cancelled += 1
            self._notify()
            raise

    async def collect(self, requests: AsyncIterator[BytesValue], context: CallContext) -> BytesValue:
        """Send back all requests as one."""
        return BytesValue(value=b"".join([request.value async for request in requests]))

    async def chat(self, requests: AsyncIterator[BytesValue], context: CallContext) -> AsyncIterator[BytesValue]:
        """Send back each request."""
        async for request in requests:
            yield request

    @property
    def service(self) -> Service:
        """The service, without a .proto file."""
        methods: dict[str, tuple[Callable[..., Any], Cardinality]] = {
            "Say": (self.say, Cardinality.UNARY_UNARY),
            "Repeat": (self.repeat, Cardinality.UNARY_STREAM),
            "Collect": (self.collect, Cardinality.STREAM_UNARY),
            "Chat": (self.chat, Cardinality.STREAM_STREAM),
        }
        return Service(
            "test.Echo",
            {name: (handler, RPCSignature(kind, BytesValue, BytesValue)) for name, (handler, kind) in methods.items()},
        )


@asynccontextmanager
async def running(
    server: GrpcServer, ssl_context: ssl.SSLContext | None = None, listener: trio.SocketListener | None = None
) -> AsyncIterator[int]:
    """Serve for the time of the block, at most `HARD_LIMIT_S`; gives the port."""
    if listener is None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1:2]
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [listener], None if ssl_context is None else lambda: ssl_context)
            yield port[0] if listener.socket.family != trio.socket.AF_UNIX else 0
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(server: GrpcServer) -> AsyncIterator[Channel]:
    """A channel to a server that runs for the time of the block."""
    async with running(server) as port, open_channel("127.0.0.1", port) as channel:
        yield channel


async def say(channel: Channel, value: bytes, **options: Any) -> bytes:
    """Call Echo's unary method."""
    response = await channel.unary("/test.Echo/Say", BytesValue(value=value), BytesValue, **options)
    return response.value
