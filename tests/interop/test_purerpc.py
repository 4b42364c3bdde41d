"""purerpc's own client: what our command line uses."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import h2.events
import trio

from tests.interop.serving import echo_server
from trio_grpc import Code


async def test_purerpcs_client_does_all_kinds_of_calls() -> None:
    async with echo_server() as server:
        command = [sys.executable, "-m", "tests.interop.purerpc_client", str(server.port)]
        done = await trio.run_process(command, capture_stdout=True)
        assert json.loads(done.stdout) == {
            "said": ["hello", 1 << 20],
            "repeated": [f"r {number}" for number in range(1, 31)],
            "collected": ["0123456789", "500000"],
            "mapped": int(Code.NOT_FOUND),
            "refuse": int(Code.INVALID_ARGUMENT),
        }
        # The last call hung until the client closed its channel.
        await server.echo.until(lambda echo: echo.cancelled == 1)
        await server.until_ended(6)
        assert server.codes()[-1] is Code.CANCELLED


def test_the_versions_are_those_that_were_tried_together() -> None:
    """A resolver left to itself takes purerpc 0.1.6 with the h2 that the server needs, or an h2 with CVE-2025-57804."""
    assert version("purerpc") == "0.8.0"
    assert tuple(map(int, version("h2").split(".")[:2])) >= (4, 4)
    assert tuple(map(int, version("hpack").split(".")[:2])) >= (4, 1)
    assert tuple(map(int, version("hyperframe").split(".")[:2])) >= (6, 1)
    assert h2.events.PingAcknowledged is h2.events.PingAckReceived  # type: ignore[attr-defined]
