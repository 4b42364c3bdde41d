"""gRPC's interoperability cases by four clients of other makes: what each sees, case by case.

The names are gRPC's. The probes of the compressed cases are left out: they ask a handler whether its message was
compressed, which no handler here can see.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trio

from tests.interop.grpcio_cases import CASES
from tests.interop.programs import java_command
from tests.interop.serving import in_thread, server_of_cases

_PASSED = {case.__name__: "passed" for case in CASES}


async def _results(*command: str | Path) -> dict[str, str]:
    async with server_of_cases() as address:
        done = await trio.run_process([*command, address], capture_stdout=True)
    results: dict[str, str] = json.loads(done.stdout)
    return results


async def test_by_grpc_go(go_client: Path) -> None:
    assert await _results(go_client) == _PASSED


async def test_by_grpc_java() -> None:
    assert await _results(*java_command(Path(__file__).parent / "java" / "Cases.java")) == _PASSED


async def test_by_grpc_js(node_client: Path) -> None:
    assert await _results("node", node_client.parent / "cases.js") == _PASSED


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_by_grpcio(case: Callable[[grpc.Channel], None]) -> None:
    async with server_of_cases() as address:

        def run() -> None:
            with grpc.insecure_channel(address) as channel:
                case(channel)

        await in_thread(run)
