"""Run as a program with a port: calls Echo by purerpc's client, and prints one JSON object of what it saw.

A process of its own because purerpc's client leaves sockets and memory streams to the garbage collector.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import trio

from tests.interop.wire import echo_pb2 as wire
from tests.interop.wire.echo_grpc import EchoStub
from trio_grpc.wire import purerpc


async def _requests() -> AsyncIterator[wire.EchoRequest]:
    for number in range(10):
        yield wire.EchoRequest(text=str(number), body=bytes(50_000))


async def _code_of(stub: Any, behaviour: str) -> int:
    try:
        await stub.Say(wire.EchoRequest(behaviour=behaviour))
    except purerpc.RpcFailedError as error:
        return int(error.status.int_value)
    return 0


async def _main(port: int) -> None:
    with trio.fail_after(20):
        async with purerpc.insecure_channel("127.0.0.1", port) as channel:
            stub: Any = EchoStub(channel)  # type: ignore[no-untyped-call]
            said = await stub.Say(wire.EchoRequest(text="hello", body=bytes(1 << 20)))
            repeat = stub.Repeat(wire.EchoRequest(text="r", count=30, response_bytes=50_000))
            repeated = [response.text async for response in repeat]
            collected = await stub.Collect(_requests())
            seen = {
                "said": [said.text, len(said.body)],
                "repeated": repeated,
                "collected": [collected.text, collected.seen["bytes"]],
                "mapped": await _code_of(stub, "mapped"),
                "refuse": await _code_of(stub, "refuse"),
            }
            print(json.dumps(seen), flush=True)
            with trio.move_on_after(0.2):
                await stub.Say(wire.EchoRequest(behaviour="hang"))


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]))
