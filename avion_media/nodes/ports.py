"""The origin, and what the nodes with a port share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from avion_media.common.errors import MediaError
from avion_media.common.settings import Bind
from avion_media.nodes.gauges import limiting
from avion_media.process.runtime import Limiter, Runtime
from avion_media.process.tree import Address
from avion_media.servers.http1 import HttpLimits, HttpServer
from avion_media.servers.origin.app import Origin
from avion_media.servers.origin.responses import SAFETY_HEADERS
from avion_media.servers.settings import HttpConfig
from supervisors import Child

Listeners = list[trio.SocketListener]


class CannotListen(MediaError):
    """A port cannot be opened, most likely because another process has it; the text says which and why."""


async def open_listeners(host: str, port: int) -> Listeners:
    """TCP listeners on ``host``; port 0 takes a free one. Raises `CannotListen`."""
    try:
        return await trio.open_tcp_listeners(port, host=host or None)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def listener_address(listeners: Sequence[trio.SocketListener]) -> tuple[str, int]:
    """Where the first listener really listens."""
    host, port, *_ = listeners[0].socket.getsockname()
    return str(host), int(port)


async def listen(child: Child[Address], bind: Bind) -> Listeners:
    """Return the listeners of one port. A free port that was taken once (port 0) is kept over restarts of its node."""
    return await open_listeners(bind.host, child.last_value[1] if child.last_value else bind.port)


async def listen_for_clients(runtime: Runtime, child: Child[Address], bind: Bind) -> Listeners:
    """The same, but none once the process drains: a node that crashes then must not accept clients, as all must leave.

    For the inside of `Runtime.draining`: a drain that begins from there on ends the server that gets the listeners.
    """
    return await listen(child, bind) if runtime.lifecycle.accepting_connections else []


async def serve_until_stopped(
    child: Child[Address], listeners: Listeners, serve: Callable[[Listeners], Awaitable[None]]
) -> None:
    """Report the address, and serve until the stop. Requests in progress are cut then: the drain came before.

    A server that was drained has ended already, and one without listeners has nothing to do: its node waits for the
    rest of the tree.
    """
    child.started(listener_address(listeners) if listeners else child.last_value or ("", 0))
    with child.until_stopping():
        if listeners:
            await serve(listeners)
        await trio.sleep_forever()


async def origin(runtime: Runtime, child: Child[Address], *, config: HttpConfig) -> None:
    """Media and thumbnails for the CDN."""
    handler = Origin(
        runtime.store,
        runtime.replay,
        runtime.moderation.status,
        runtime.telemetry,
        config,
        lambda: runtime.capabilities().to_dict(),
    ).handle
    server = HttpServer(handler, HttpLimits(max_connections=config.max_connections), refusal_headers=SAFETY_HEADERS)
    runtime.observed.active_requests = lambda: server.requests
    slots = limiting(runtime, "http.connections", lambda: Limiter(server.connections, config.max_connections))
    with slots, runtime.draining("origin", server.drain):
        listeners = await listen_for_clients(runtime, child, config.bind)
        await serve_until_stopped(child, listeners, server.serve)
