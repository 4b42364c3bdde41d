"""The client of the commands, when the service dies."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from avion_media.cli.client import CallFailed, open_client
from avion_media.common.settings import Bind
from avion_media.config import Config
from avion_media.servers.settings import ClientConfig


async def test_a_watch_ends_when_the_service_dies() -> None:
    """It would wait for its deadline of five minutes."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    config = Config(client=ClientConfig(address=Bind(host="127.0.0.1", port=listeners[0].socket.getsockname()[1])))

    async def accept_a_call_and_die(stream: trio.SocketStream) -> None:
        received = b""
        while b"WatchMediaStatus" not in received and len(received) < 200:  # the path may be compressed
            received += await stream.receive_some()
        await stream.aclose()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, accept_a_call_and_die, listeners))
            async with open_client(config) as client:
                with pytest.raises(CallFailed, match="ended the connection"):
                    await client.wait("01M88C0SJ305C5J3D3BYCKGC00")
            nursery.cancel_scope.cancel()
