"""The methods that are served, and one run of a handler: its request goes in, and its response or error comes out."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

import trio
from google.protobuf.message import DecodeError

from trio_grpc.context import CallContext
from trio_grpc.hooks import Around, Hooks
from trio_grpc.limits import GrpcLimits
from trio_grpc.net import Account, Reactor
from trio_grpc.protocol import Protocol
from trio_grpc.service import Service
from trio_grpc.status import Code, Headers, RpcError
from trio_grpc.wire_format import GZIP_ENCODING, MIN_COMPRESSED_BYTES, Message, deflated, framed, inflated

_RETRY_S = 1.0  # after this time, clients that a drain cut off can call again
_serialize = methodcaller("SerializeToString")
_ENOUGH_PENDING_BYTES = 64 << 10  # a stream's handler waits while this much of its response is unsent


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    path: str
    handler: Callable[..., Any]
    """Takes the message, or the iterator of messages, and the `CallContext`."""
    parse: Callable[[bytes], Any]
    streams_requests: bool
    streams_responses: bool
    max_message_bytes: int
    serialize: Callable[[Any], bytes] = _serialize
    around: Around | None = None
    takes: dict[str, int] = field(init=False)
    """What a call of it takes from its peer's account."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes", {"calls": 1, "streams": 1} if self.may_last else {"calls": 1})

    @property
    def may_last(self) -> bool:
        """Whether the client or the handler may go on sending."""
        return self.streams_requests or self.streams_responses


def methods_of(services: Iterable[Service], max_message_bytes: int, around: Around | None = None) -> dict[str, Method]:
    """Return all methods of the services, by path."""
    methods: dict[str, Method] = {}
    for service in services:
        for name, (handler, signature) in service.methods.items():
            path, parse = f"/{service.name}/{name}", signature.request_type.FromString
            methods[path] = Method(path, handler, parse, *signature.cardinality.value, max_message_bytes, around=around)
    return methods


@dataclass(slots=True)
class ServerContext:
    """What the connections of one server have in common."""

    limits: GrpcLimits
    methods: dict[str, Method]
    hooks: Hooks
    ended: Callable[[Account, socket.socket], None]  # closes what belongs to a connection
    unknown: Method | None = None  # for paths that `methods` does not have
    reactor: Reactor = field(default_factory=Reactor)
    nursery: trio.Nursery = field(init=False)  # of the handlers

    def method(self, path: str) -> Method | None:
        """Return the method of this path."""
        return self.methods.get(path, self.unknown)

    def max_message_bytes(self, path: str) -> int:
        """Return the largest size of a request message of this method."""
        method = self.method(path)
        return self.limits.max_message_bytes if method is None else method.max_message_bytes


class RunningCall:
    """A call and its handler. The connection reports the client's actions to it. It raises only Cancelled."""

    def __init__(
        self,
        call: CallContext,
        method: Method,
        stream_id: int,
        protocol: Protocol,
        shared: ServerContext,
        settle: Callable[[], None],
    ) -> None:
        self.call = call
        self.stream_id = stream_id
        self.scope = trio.CancelScope(deadline=call.deadline)
        self.method = method
        self._protocol = protocol
        self._hooks = shared.hooks
        self._limits = shared.limits
        self._settle = settle
        self._inbox: deque[Message] = deque()
        self._ended = False
        self._draining = False
        self._ended_with: RpcError | None = None
        self._is_gone = False
        self._sends_gzip: bool | None = None  # known once the head is sent
        self._code: Code | None = None  # of the response, once it is given
        self._news = trio.lowlevel.ParkingLot()  # two may wait: one for a request, one for room for a response
        self._pull: trio.CancelScope | None = None

    # -- Called by the connection

    @property
    def has_message(self) -> bool:
        """Whether a message of the request waits for the handler."""
        return bool(self._inbox)

    def put(self, message: Message) -> None:
        """Add another message of the request."""
        self._inbox.append(message)
        self.wake()

    def end_of_request(self) -> None:
        """End the messages of the request."""
        self._ended = True
        self.wake()

    def wake(self) -> None:
        """Wake the handler, because something that it may wait for has happened."""
        if self._news:
            self._news.unpark_all()

    def gone(self, code: Code) -> None:
        """Record that the client has received this status, and the call is over for it."""
        self.call.code = code
        self._is_gone = True
        self.scope.cancel()
        self.wake()

    def end(self, error: RpcError) -> None:
        """End it with this error while its handler runs; after that reset it, since the client reads no response."""
        if self._code is not None:
            self._protocol.cancel(self.stream_id)
            self.gone(Code.CANCELLED)
        else:
            self._ended_with = error
            self.scope.cancel()

    def drain(self) -> None:
        """End a stream of responses at the next message boundary, now if the handler is at one."""
        self._draining = True
        if self._pull is not None:
            self._pull.cancel()

    # -- Running

    async def run(self) -> None:
        """Run the handler and respond. A cancel from outside leaves the call without a response."""
        error: RpcError | None = None
        self.call.send_head = self._send_initial_metadata
        try:
            with self.scope:
                await self._handle()
        except Exception as exception:  # noqa: BLE001 - handlers may raise anything; the client learns a code
            error = self._hooks.error_for(exception, self.call.method)
        self.call.send_head = None
        if self._is_gone:
            return
        if self.scope.cancelled_caught:
            error = self._ended_with or RpcError(Code.DEADLINE_EXCEEDED, "the deadline has passed")
        self._protocol.send_end(self.stream_id, error, self.call.trailing_metadata)
        self._code = Code.OK if error is None else error.code

    async def until_ended(self) -> None:
        """Wait until the client has received the response or has left: then `CallContext.code` is known."""
        while not self._is_gone and self._protocol.is_open(self.stream_id):
            await self._news.park()
        if not self._is_gone and self._code is not None:
            self.call.code = self._code

    async def _handle(self) -> None:
        if self.method.around is None:
            return await self._handle_requests()
        async with self.method.around(self.call):
            return await self._handle_requests()
        raise RuntimeError("the context manager around the handler has suppressed its exception")

    async def _handle_requests(self) -> None:
        if not self.method.streams_requests:
            return await self._answer(await self._next_request())
        async with aclosing(self._requests()) as requests:
            return await self._answer(requests)

    async def _answer(self, request: Any) -> None:
        answer = self.method.handler(request, self.call)
        if not self.method.streams_responses:
            await self._send(await answer)
            return
        async with aclosing(answer) as responses:
            await self._send_all(responses)

    async def _next_request(self) -> Any:
        message = self._inbox.popleft()
        self._protocol.message_taken(self.stream_id, message)
        payload = message.payload
        if message.is_compressed:
            payload = await inflated(payload, self.method.max_message_bytes)
        try:
            return self.method.parse(payload)
        except DecodeError:
            raise RpcError(Code.INVALID_ARGUMENT, "the request is not a message of the expected type") from None

    def _send_initial_metadata(self, headers: Headers) -> None:
        sends_gzip = self.call.compress and self.call.accepts_gzip
        self._protocol.send_head(self.stream_id, (*headers, GZIP_ENCODING) if sends_gzip else headers)
        self._sends_gzip = sends_gzip
        self._settle()

    async def _send(self, response: Any) -> None:
        payload = self.method.serialize(response)
        if len(payload) > self._limits.max_send_bytes:
            self._hooks.report(self.call.method, ValueError(f"a response of {len(payload)} bytes"))
            text = f"a response of {len(payload)} bytes; the limit is {self._limits.max_send_bytes}"
            raise RpcError(Code.RESOURCE_EXHAUSTED, text)
        if self._sends_gzip is None:
            if self.call.compress and self.call.accepts_gzip:
                self._send_initial_metadata(())
            else:
                self._sends_gzip = False  # the head goes out with the message
        is_compressed = bool(self._sends_gzip) and self.call.compress and len(payload) >= MIN_COMPRESSED_BYTES
        if is_compressed:
            payload = await deflated(payload)
        self._protocol.send_message(self.stream_id, framed(payload, is_compressed=is_compressed))

    async def _requests(self) -> AsyncGenerator[Any, None]:
        while True:
            while not self._inbox:
                if self._ended:
                    return
                self._protocol.want_message(self.stream_id)
                self._settle()
                await self._news.park()
            yield await self._next_request()

    async def _send_all(self, responses: AsyncIterator[Any]) -> None:
        while True:
            with trio.CancelScope() as self._pull:
                if self._draining:
                    raise shutting_down()
                try:
                    response = await anext(responses)
                except StopAsyncIteration:
                    return
            if self._pull.cancelled_caught:
                raise shutting_down()
            self._pull = None
            await self._send(response)
            self._settle()
            await trio.lowlevel.checkpoint()
            while self._protocol.pending_bytes(self.stream_id) >= _ENOUGH_PENDING_BYTES:
                await self._news.park()


def shutting_down() -> RpcError:
    """Return the error that ends a call because the server shuts down."""
    return RpcError(Code.UNAVAILABLE, "server is shutting down; retry on a new connection", retry_after_s=_RETRY_S)
