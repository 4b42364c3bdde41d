"""Unix sockets, what is around handlers, and methods that no service has."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from google.protobuf.wrappers_pb2 import BytesValue

from trio_grpc import (
    CallContext,
    CallError,
    Code,
    GrpcServer,
    Hooks,
    RpcError,
    open_unix_channel,
    open_unix_listener,
)

from .echo import Echo, connected, running, say


async def test_a_unix_socket_serves_and_says_who_calls(tmp_path: Path) -> None:
    echo, path = Echo(), tmp_path / "grpc.sock"
    for _ in range(2):  # the second time there is a socket that nothing listens on
        async with running(GrpcServer([echo.service]), listener=open_unix_listener(path)):
            assert path.stat().st_mode & 0o777 == 0o600
            with pytest.raises(OSError, match="in use"):
                open_unix_listener(path)
            async with open_unix_channel(path) as channel:
                assert await say(channel, b"hello") == b"hello"
    assert [context.peer.user_id for context in echo.contexts] == [os.getuid()] * 2
    assert echo.contexts[0].peer.address == f"unix:{os.getpid()}"


async def test_what_is_around_a_handler_prepares_refuses_and_sees_its_end() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def around(call: CallContext) -> AsyncIterator[None]:
        if "x-refuse" in call.metadata:
            raise RpcError(Code.PERMISSION_DENIED, "not now")
        await trio.lowlevel.checkpoint()
        seen.append(f"before {call.method}")
        try:
            yield
        except RpcError as error:
            seen.append(error.code.name)
            raise RpcError(Code.ABORTED, "changed") from None
        seen.append(f"after {call.method}")

    server = GrpcServer([Echo().service], hooks=Hooks(around=around))
    async with connected(server) as channel:
        assert await say(channel, b"hello") == b"hello"
        chat = channel.stream("/test.Echo/Chat", _once(BytesValue(value=b"x")), BytesValue)
        assert [response.value async for response in chat] == [b"x"]
        for request, metadata, code in ((b"", [("x-refuse", "")], 7), (b"refuse", [], 10)):
            with pytest.raises(CallError) as caught:
                await say(channel, request, metadata=metadata)
            assert caught.value.code == code
    paths = ("/test.Echo/Say", "/test.Echo/Chat")
    assert seen == [
        *(f"{when} {path}" for path in paths for when in ("before", "after")),
        "before /test.Echo/Say",
        "INVALID_ARGUMENT",
    ]


async def _once(message: BytesValue) -> AsyncIterator[BytesValue]:
    yield message


async def test_streams_end_when_their_caller_is_no_longer_allowed() -> None:
    allowed = {"ada", "bob"}

    def authorise(call: CallContext) -> None:
        call.caller = str(call.metadata.get("x-name"))
        if call.caller not in allowed:
            raise RpcError(Code.UNAUTHENTICATED, "who are you?")

    echo = Echo()
    server = GrpcServer([echo.service], hooks=Hooks(authorise=authorise))
    async with connected(server) as channel, trio.open_nursery() as nursery:
        answers: list[bytes] = []

        async def wait_for_the_answer() -> None:
            answers.append(await say(channel, b"wait", metadata=[("x-name", "ada")]))

        nursery.start_soon(wait_for_the_answer)
        streams = [
            channel.stream("/test.Echo/Repeat", _once(BytesValue(value=b"x")), BytesValue, metadata=[("x-name", name)])
            for name in ("ada", "bob")
        ]
        for stream in streams:
            for _ in range(10):
                await anext(stream)
        await echo.until(lambda seen: seen.contexts)
        allowed.remove("ada")
        server.authorise_again()
        with pytest.raises(CallError) as caught:
            await anext(streams[0])
        assert (caught.value.code, caught.value.message) == (Code.UNAUTHENTICATED, "who are you?")
        assert server.calls == 2  # a call that ends by itself is finished, and bob's stream goes on
        echo.released.set()
        with pytest.raises(StopAsyncIteration):
            await anext(streams[1])
    assert answers == [b"wait"]


async def test_a_handler_of_unknown_methods_gets_bytes() -> None:
    async def forward(requests: AsyncIterator[bytes], context: CallContext) -> AsyncIterator[bytes]:
        async for request in requests:
            message = BytesValue.FromString(request)
            yield BytesValue(value=context.method.encode() + message.value).SerializeToString()

    server = GrpcServer([Echo().service], unknown=forward)
    assert "" not in server.methods
    async with connected(server) as channel:
        assert await say(channel, b"known") == b"known"
        answer = await channel.unary("/other.Service/Method", BytesValue(value=b"?"), BytesValue)
        assert answer.value == b"/other.Service/Method?"
