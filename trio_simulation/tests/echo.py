"""An echo server and two clients, with all that could make two runs differ."""

from __future__ import annotations

import random
import time
import uuid

import trio

from trio_simulation import Simulation


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        async for data in stream:
            await trio.sleep(random.random() / 10)
            await stream.send_all(data)


async def serve() -> None:
    await trio.serve_tcp(echo, 7)


async def ask(simulation: Simulation, questions: int) -> None:
    stream = await trio.open_tcp_stream("server", 7)
    async with stream:
        for _ in range(questions):
            question = f"{uuid.uuid4()} {time.time()}".encode()
            await trio.to_thread.run_sync(time.sleep, random.random())
            await stream.send_all(question)
            received = b""
            while len(received) < len(question):
                received += await stream.receive_some()
            assert received == question
    simulation.note("done")


async def scenario(simulation: Simulation) -> None:
    simulation.node("server").start(serve)
    async with trio.open_nursery() as nursery:
        for name in ("one", "two"):
            nursery.start_soon(simulation.node(name).run, ask, simulation, 5)
