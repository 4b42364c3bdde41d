"""gRPC's interoperability cases by three clients of other makes: what each sees, case by case.

The names are gRPC's. The probes of the compressed cases are left out: they ask a handler whether its message was
compressed, which no handler here can see.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trio

from avion_media.grpc import GrpcServer
from tests.interop.grpcio_cases import CASES
from tests.interop.serving import in_thread
from tests.interop.testing_service import TestingService

_HERE = Path(__file__).parent
_PASSED = {case.__name__: "passed" for case in CASES}


@asynccontextmanager
async def _testing_server() -> AsyncIterator[str]:
    """The address of a server of the cases' service. No handler is left at the end."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = GrpcServer([TestingService().service])
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, listeners)
            yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            await server.drain(grace_s=10)
            assert server.stats().calls == 0
            nursery.cancel_scope.cancel()


async def _results(*command: str | Path) -> dict[str, str]:
    async with _testing_server() as address:
        done = await trio.run_process([*command, address], capture_stdout=True)
    results: dict[str, str] = json.loads(done.stdout)
    return results


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client of grpc-go, built from Debian's packages: golang-go and golang-google-grpc-dev."""
    built = tmp_path_factory.mktemp("go") / "client"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "-trimpath"}
    subprocess.run(["go", "build", "-o", built, _HERE / "go" / "main.go"], env=environment, check=True, timeout=600)
    return built


async def test_by_grpc_go(go_client: Path) -> None:
    assert await _results(go_client) == _PASSED


async def test_by_grpc_js(node_client: Path) -> None:
    assert await _results("node", node_client.parent / "cases.js") == _PASSED


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_by_grpcio(case: Callable[[grpc.Channel], None]) -> None:
    async with _testing_server() as address:

        def run() -> None:
            with grpc.insecure_channel(address) as channel:
                case(channel)

        await in_thread(run)
