"""@grpc/grpc-js, the client of the Node.js world, with and without TLS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trio

from tests.interop.conftest import Certificates
from tests.interop.serving import EchoServer, echo_server
from trio_grpc import Code

EXPECTED = {
    "hello": ["hello", 2_000_000, "00-1-2-03"],
    "refused": [int(Code.INVALID_ARGUMENT), "50 % of «it» is bad\n", 1],
    "late": int(Code.DEADLINE_EXCEEDED),
    "repeated": [0, 40, "r 40"],
    "cancelled": int(Code.CANCELLED),
    "collected": ["012345678910111213141516171819", "1000000"],
    "chatted": {"texts": ["0", "1", "2", "3", "4"], "code": 0},
    "many": 300,
}


async def _run(client: Path, *arguments: str) -> Any:
    done = await trio.run_process(["node", str(client), *arguments], capture_stdout=True)
    return json.loads(done.stdout)


async def _nothing_is_left(server: EchoServer) -> None:
    await server.echo.until(lambda echo: echo.cancelled == echo.entered == 1)
    await server.until_ended(307)
    assert server.server.calls == 0
    assert not server.errors


async def test_all_kinds_of_calls(node_client: Path) -> None:
    async with echo_server() as server:
        assert await _run(node_client, server.address) == EXPECTED
        await _nothing_is_left(server)


async def test_all_kinds_of_calls_over_tls(node_client: Path, certificates: Certificates) -> None:
    async with echo_server(ssl_context=certificates.server_context()) as server:
        assert await _run(node_client, f"localhost:{server.port}", str(certificates.ca_path)) == EXPECTED
        await _nothing_is_left(server)
