"""purerpc's own client, in an environment of its own: it needs an older h2 than anything else here may have."""

from __future__ import annotations

import json

import trio

from tests.interop.programs import PURERPC
from tests.interop.serving import echo_server
from trio_grpc import Code


async def test_purerpcs_client_does_all_kinds_of_calls() -> None:
    async with echo_server() as server:
        done = await trio.run_process([*PURERPC, str(server.port)], capture_stdout=True)
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
