"""A server of nothing but Echo's Say: what the transport itself costs.

usage: echo.py ours|grpcio [FLOOD_CONNECTIONS]      prints its address when it serves; ends with its standard input
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import trio

from tests.interop.methods import SERVICE
from tests.interop.wire import echo_pb2 as wire
from tests.interop.wire.echo_grpc import EchoServicer
from trio_grpc import CallContext, GrpcLimits, GrpcServer


class Echo(EchoServicer):
    """Says the text again."""

    async def Say(self, request: wire.EchoRequest, context: CallContext) -> wire.EchoResponse:
        """One answer."""
        return wire.EchoResponse(text=request.text)


async def serve_ours() -> None:
    """On the transport of this project."""
    limits = GrpcLimits(flood_connections=int(sys.argv[2])) if sys.argv[2:] else GrpcLimits()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(GrpcServer([Echo().service], limits=limits).serve, listeners)
        print(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def serve_grpcio() -> None:
    """On grpcio's asyncio server."""

    async def say(request: wire.EchoRequest, context: grpc.aio.ServicerContext) -> wire.EchoResponse:
        return wire.EchoResponse(text=request.text)

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        say,
        request_deserializer=wire.EchoRequest.FromString,
        response_serializer=wire.EchoResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Say": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=1)


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        trio.run(serve_ours)
    else:
        asyncio.run(serve_grpcio())
