"""The Echo service: does what its requests ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio
from google.rpc.error_details_pb2 import BadRequest

from tests.interop.wire import echo_pb2 as wire
from tests.interop.wire.echo_grpc import EchoServicer
from trio_grpc import CallContext, Code, RpcError


class Echo(EchoServicer):
    """``entered`` and ``cancelled`` count what happened to handlers that hang; ``released`` lets them go on."""

    def __init__(self) -> None:
        self.entered = 0
        self.cancelled = 0
        self.sent = 0
        self.released = trio.Event()
        self._news = trio.Event()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, condition: Any) -> None:
        """Until the condition about this object holds."""
        while not condition(self):
            await self._news.wait()

    async def Say(self, request: wire.EchoRequest, context: CallContext) -> wire.EchoResponse:
        """One answer."""
        await self._behave(request)
        _send_metadata(context)
        seen = {name: str(value) for name, value in context.metadata.items()}
        seen |= {"peer": context.peer.address, "remaining_s": f"{context.remaining_s:.3f}"}
        seen["certificate"] = str(context.peer.certificate)
        body = bytes(request.response_bytes) or request.body
        return wire.EchoResponse(text=request.text, body=body, seen=seen)

    async def Repeat(self, request: wire.EchoRequest, context: CallContext) -> AsyncIterator[wire.EchoResponse]:
        """``count`` answers, or ever more."""
        number = 0
        while not request.count or number < request.count:
            number += 1
            yield wire.EchoResponse(text=f"{request.text} {number}", body=bytes(request.response_bytes))
            self.sent = number
            self._tell()
        await self._behave(request)

    async def Collect(self, requests: AsyncIterator[wire.EchoRequest], context: CallContext) -> wire.EchoResponse:
        """All texts joined, and how many bytes there were."""
        texts, count = [], 0
        async for request in requests:
            texts.append(request.text)
            count += len(request.body)
            await self._behave(request)
        return wire.EchoResponse(text="".join(texts), seen={"bytes": str(count)})

    async def Chat(
        self, requests: AsyncIterator[wire.EchoRequest], context: CallContext
    ) -> AsyncIterator[wire.EchoResponse]:
        """An answer to each."""
        async for request in requests:
            await self._behave(request)
            yield wire.EchoResponse(text=request.text, body=request.body)

    async def _behave(self, message: wire.EchoRequest) -> None:
        match message.behaviour:
            case "hang":
                await self._hang()
            case "fail":
                raise ValueError("a secret")
            case "fail in group":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._fail)
            case "mapped":
                raise LookupError("mapped")
            case "refuse":
                violation = BadRequest.FieldViolation(field="text", description="bad")
                details = [BadRequest(field_violations=[violation])]
                raise RpcError(Code.INVALID_ARGUMENT, "50 % of «it» is bad\n", details)

    async def _fail(self) -> None:
        raise KeyError("another secret")

    async def _hang(self) -> None:
        self.entered += 1
        self._tell()
        try:
            await self.released.wait()
        except trio.Cancelled:
            self.cancelled += 1
            self._tell()
            raise


def _send_metadata(context: CallContext) -> None:
    """Send back what the client asks for in its metadata, as the interoperability tests of gRPC do."""
    for name in ("x-initial", "x-initial-bin"):
        if name in context.metadata:
            context.send_initial_metadata([(name, value) for value in context.metadata.get_all(name)])
    for name in ("x-trailing", "x-trailing-bin"):
        context.add_trailing_metadata([(name, value) for value in context.metadata.get_all(name)])
    context.compress = context.compress or "x-compress" in context.metadata
