"""The Echo service: does what its requests ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio
from google.rpc.error_details_pb2 import BadRequest

from avion_media.grpc import Call, Code, RpcError
from tests.interop.wire import echo_pb2 as wire
from tests.interop.wire.echo_grpc import EchoServicer


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

    async def Say(  # type: ignore[override]
        self, message: wire.EchoRequest, request: Call
    ) -> wire.EchoResponse:
        """One answer."""
        await self._behave(message)
        seen = {name: str(value) for name, value in request.metadata.items()}
        seen |= {"peer": request.peer.address, "remaining_s": f"{request.remaining_s:.3f}"}
        seen["certificate"] = str(request.peer.certificate)
        body = bytes(message.response_bytes) or message.body
        return wire.EchoResponse(text=message.text, body=body, seen=seen)

    async def Repeat(  # type: ignore[override]
        self, message: wire.EchoRequest
    ) -> AsyncIterator[wire.EchoResponse]:
        """``count`` answers, or ever more."""
        number = 0
        while not message.count or number < message.count:
            number += 1
            yield wire.EchoResponse(text=f"{message.text} {number}", body=bytes(message.response_bytes))
            self.sent = number
            self._tell()
        await self._behave(message)

    async def Collect(self, messages: AsyncIterator[wire.EchoRequest]) -> wire.EchoResponse:
        """All texts joined, and how many bytes there were."""
        texts, count = [], 0
        async for message in messages:
            texts.append(message.text)
            count += len(message.body)
            await self._behave(message)
        return wire.EchoResponse(text="".join(texts), seen={"bytes": str(count)})

    async def Chat(  # type: ignore[override]
        self, messages: AsyncIterator[wire.EchoRequest]
    ) -> AsyncIterator[wire.EchoResponse]:
        """An answer to each."""
        async for message in messages:
            await self._behave(message)
            yield wire.EchoResponse(text=message.text, body=message.body)

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
