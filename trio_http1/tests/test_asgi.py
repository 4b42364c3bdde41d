"""What an ASGI application does wrong costs its own client a response, and others nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trio_http1 import AsgiServer, HttpLimits

from .serving import logged

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
LIMIT_S = 20.0


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Does by path what an application can do."""
    match scope["path"]:
        case "/raises":
            raise RuntimeError("a bug")
        case "/nothing":
            return
        case "/cookies":
            await send(START | {"headers": [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]})
        case "/cut":
            await send(START | {"headers": [(b"content-length", b"6")]})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            raise RuntimeError("a bug")
        case "/late bug":
            await send(START | {"headers": [(b"content-length", b"3")]})
            await send({"type": "http.response.body", "body": b"all"})
            raise RuntimeError("a bug")
        case "/waits":
            await send(START)
            await receive()
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await receive()


@asynccontextmanager
async def connected() -> AsyncIterator[trio.SocketStream]:
    """A client of the application's server."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with logged(), trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(AsgiServer(application, HttpLimits()).serve, listeners)
            async with await trio.open_tcp_stream(*listeners[0].socket.getsockname()[:2]) as client:
                yield client
            nursery.cancel_scope.cancel()


async def get(client: trio.SocketStream, path: str) -> bytes:
    await client.send_all(f"GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = await client.receive_some()
        assert received, answer
        answer += received
    return answer


async def read_to_end(client: trio.SocketStream) -> None:
    while await client.receive_some():
        pass


@pytest.mark.parametrize("path", ["/raises", "/nothing", "/cookies"])
async def test_an_application_that_fails_before_its_response_is_answered_for(path: str) -> None:
    async with connected() as client:
        assert (await get(client, path)).startswith(b"HTTP/1.1 500")
        assert (await get(client, path)).startswith(b"HTTP/1.1 500")  # on the same connection


async def test_a_response_that_its_application_breaks_off_does_not_look_whole() -> None:
    async with connected() as client:
        assert (await get(client, "/cut")).startswith(b"HTTP/1.1 200")
        with pytest.raises(trio.BrokenResourceError):
            await read_to_end(client)


async def test_a_bug_behind_the_response_does_not_touch_it() -> None:
    async with connected() as client:
        for _ in range(2):
            answer = await get(client, "/late%20bug")
            while not answer.endswith(b"all"):
                answer += await client.receive_some()


async def test_an_application_that_waits_for_its_client_ends_when_the_client_leaves() -> None:
    async with connected() as client:
        assert b"chunked" in await get(client, "/waits")
        await client.send_eof()
        with pytest.raises(trio.BrokenResourceError):
            await read_to_end(client)
