"""A subscription, on its own connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection

from avion_media.backends.redis.connection import send
from avion_media.backends.redis.errors import UNAVAILABLE

_QUIET_S = 15.0  # a subscription without messages sends a PING after this long


async def hear(
    connection: TCPConnection,
    channels: tuple[str, ...],
    heard: Callable[[str, bytes], None],
    subscribed: Callable[[], None],
    timeout_s: float,
) -> None:
    """Subscribe, and call back for each message, until the connection is lost. See `Redis.listen`."""
    missing = set(channels)
    connection.send_command(b"SUBSCRIBE", *channels)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_over, connection, timeout_s)
        try:
            async with aclosing(connection.push_messages) as pushes:
                push: Any  # kind, channel, payload
                async for push in pushes:
                    channel = push[1].decode()
                    if push[0] == b"message":
                        heard(channel, push[2])
                    elif push[0] == b"subscribe" and channel in missing:
                        missing.discard(channel)
                        if not missing:
                            subscribed()
        except refusals.ConnectionError:
            pass  # the caller raises it, outside of the nursery
        nursery.cancel_scope.cancel()


async def _watch_over(connection: TCPConnection, timeout_s: float) -> None:
    """End a subscription whose server does not respond any more."""
    try:
        while True:
            await trio.sleep(_QUIET_S)
            with trio.fail_after(timeout_s):
                await send(connection, ("PING",))
    except UNAVAILABLE:
        connection.invalidate()
