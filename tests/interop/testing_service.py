"""The service of gRPC's interoperability cases: it answers as each request asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from tests.interop.wire.grpc import testing_pb2 as wire
from tests.interop.wire.grpc.testing_grpc import TestServiceServicer
from trio_grpc import CallContext, Code, RpcError

_INITIAL, _TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


class TestingService(TestServiceServicer):
    """`UnimplementedCall` is left out, as its name says."""

    async def EmptyCall(self, request: wire.Empty, context: CallContext) -> wire.Empty:
        """Nothing for nothing."""
        return wire.Empty()

    async def UnaryCall(self, request: wire.SimpleRequest, context: CallContext) -> wire.SimpleResponse:
        """A payload of the size that was asked for."""
        _send_back_metadata(context)
        context.compress = request.response_compressed.value
        _raise_status(request.response_status)
        return wire.SimpleResponse(payload=_payload(request.response_size))

    async def StreamingOutputCall(
        self, request: wire.StreamingOutputCallRequest, context: CallContext
    ) -> AsyncIterator[wire.StreamingOutputCallResponse]:
        """One payload for each of the request's parameters."""
        _raise_status(request.response_status)
        for each in request.response_parameters:
            yield await _response(each, context)

    async def StreamingInputCall(
        self, requests: AsyncIterator[wire.StreamingInputCallRequest], context: CallContext
    ) -> wire.StreamingInputCallResponse:
        """How many bytes came."""
        size = 0
        async for request in requests:
            size += len(request.payload.body)
        return wire.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(
        self, requests: AsyncIterator[wire.StreamingOutputCallRequest], context: CallContext
    ) -> AsyncIterator[wire.StreamingOutputCallResponse]:
        """As `StreamingOutputCall`, for one request after the other."""
        _send_back_metadata(context)
        async for request in requests:
            _raise_status(request.response_status)
            for each in request.response_parameters:
                yield await _response(each, context)


async def _response(asked: wire.ResponseParameters, context: CallContext) -> wire.StreamingOutputCallResponse:
    await trio.sleep(asked.interval_us / 1e6)
    context.compress = asked.compressed.value
    return wire.StreamingOutputCallResponse(payload=_payload(asked.size))


def _payload(size: int) -> wire.Payload:
    return wire.Payload(body=bytes(size))


def _raise_status(status: wire.EchoStatus) -> None:
    if status.code:
        raise RpcError(Code(status.code), status.message)


def _send_back_metadata(context: CallContext) -> None:
    if _INITIAL in context.metadata:
        context.send_initial_metadata([(_INITIAL, value) for value in context.metadata.get_all(_INITIAL)])
    context.add_trailing_metadata([(_TRAILING, value) for value in context.metadata.get_all(_TRAILING)])
