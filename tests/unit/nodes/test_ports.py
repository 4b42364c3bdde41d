"""What the nodes with a port rely on."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_grpc import GrpcServer
from trio_http1 import HttpLimits, HttpServer, Request, Response


async def _nothing(_request: Request) -> Response:
    raise AssertionError("nobody should be served")


@pytest.mark.parametrize("make", [lambda: GrpcServer([]), lambda: HttpServer(_nothing, HttpLimits())])
async def test_a_drain_that_comes_before_the_server_serves_ends_it(make: Any) -> None:
    """The drain may begin while a node that has crashed opens its listeners again."""
    server = make()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listeners[0].socket.getsockname()
    with trio.fail_after(20):
        await server.drain(1.0)
        await server.serve(listeners)
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(host, port)
