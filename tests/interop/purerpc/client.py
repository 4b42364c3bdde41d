"""Run with a port in the environment of this folder: calls Echo by purerpc, and prints what it saw as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import purerpc
import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
import echo_pb2 as wire  # type: ignore[import-not-found] # of the folder above


class _Stub:
    """What purerpc's plugin would generate."""

    def __init__(self, channel: Any) -> None:
        client, kinds = purerpc.Client("avion.test.Echo", channel), purerpc.Cardinality
        methods = {"Say": kinds.UNARY_UNARY, "Repeat": kinds.UNARY_STREAM, "Collect": kinds.STREAM_UNARY}
        for name, kind in methods.items():
            signature = purerpc.RPCSignature(kind, wire.EchoRequest, wire.EchoResponse)
            setattr(self, name, client.get_method_stub(name, signature))


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
            stub: Any = _Stub(channel)
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
