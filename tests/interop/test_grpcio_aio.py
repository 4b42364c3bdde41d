"""grpcio's asyncio client, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
import trio

from tests.interop.methods import TIMEOUT_S, chat, repeat, say
from tests.interop.serving import EchoServer, echo_server, in_thread
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code

T = TypeVar("T")


async def _with_aio(server: EchoServer, use: Any) -> Any:
    async def client() -> Any:
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await use(channel)

    return await in_thread(lambda: asyncio.run(client()))


async def test_unary_calls_at_once() -> None:
    async def client(channel: grpc.aio.Channel) -> list[str]:
        calls: list[Coroutine[Any, Any, Any]] = [
            _say(channel, wire.EchoRequest(text=str(number))) for number in range(200)
        ]
        return [response.text for response in await asyncio.gather(*calls)]

    async def _say(channel: grpc.aio.Channel, request: wire.EchoRequest) -> wire.EchoResponse:
        return await say(channel)(request, timeout=TIMEOUT_S)  # type: ignore[no-any-return]

    async with echo_server() as server:
        assert await _with_aio(server, client) == [str(number) for number in range(200)]


async def test_a_stream_of_responses() -> None:
    async def client(channel: grpc.aio.Channel) -> list[str]:
        stream = repeat(channel)(wire.EchoRequest(text="r", count=50, response_bytes=20_000), timeout=TIMEOUT_S)
        return [response.text async for response in stream]

    async with echo_server() as server:
        assert await _with_aio(server, client) == [f"r {number}" for number in range(1, 51)]


async def test_a_conversation() -> None:
    async def client(channel: grpc.aio.Channel) -> list[str]:
        call = chat(channel)(timeout=TIMEOUT_S)
        answers = []
        for number in range(10):
            await call.write(wire.EchoRequest(text=str(number)))
            answers.append((await call.read()).text)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        return answers

    async with echo_server() as server:
        assert await _with_aio(server, client) == [str(number) for number in range(10)]


async def test_a_cancelled_task_cancels_the_handler() -> None:
    async with echo_server() as server:
        token = trio.lowlevel.current_trio_token()

        async def in_server(function: Any, *arguments: Any) -> None:
            await asyncio.to_thread(trio.from_thread.run, function, *arguments, trio_token=token)

        async def client(channel: grpc.aio.Channel) -> bool:
            call = say(channel)(wire.EchoRequest(behaviour="hang"), timeout=TIMEOUT_S)
            await in_server(server.echo.until, lambda echo: echo.entered)
            return bool(call.cancel())

        assert await _with_aio(server, client)
        await server.echo.until(lambda echo: echo.cancelled == 1)
        await server.until_ended(1)
        assert server.codes() == [Code.CANCELLED]
