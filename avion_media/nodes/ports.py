"""The origin, and what the nodes with a port share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from avion_media.config import Bind
from avion_media.nodes.gauges import limiting
from avion_media.origin.app import Origin
from avion_media.origin.http1 import HttpLimits
from avion_media.origin.observed import ObservedOrigin
from avion_media.origin.server import HttpServer, listener_address, open_listeners
from avion_media.runtime import Limiter, Runtime
from supervisors import Child

Listeners = list[trio.SocketListener]


async def listen(runtime: Runtime, name: str, bind: Bind) -> Listeners:
    """Listeners of one port. A free port that was taken once (port 0) is kept over restarts of its child."""
    known = runtime.addresses.get(name)
    listeners = await open_listeners(bind.host, known[1] if known else bind.port)
    runtime.addresses[name] = listener_address(listeners)
    return listeners


async def listen_for_clients(runtime: Runtime, name: str, bind: Bind) -> Listeners:
    """The same, but none once the process drains: a node that crashes then must let nobody in, as all are told to go.

    For the inside of `Runtime.draining`: a drain that begins from there on ends the server that gets the listeners.
    """
    return await listen(runtime, name, bind) if runtime.lifecycle.letting_in else []


async def serve_until_stopped(
    child: Child, listeners: Listeners, serve: Callable[[Listeners], Awaitable[None]]
) -> None:
    """Ready now; serve until told to stop. What is still under way is cut then: the drain came before.

    A server that was drained has ended already, and one without listeners has nothing to do: its child waits for the
    rest of the tree.
    """
    child.ready()
    with child.until_stopping():
        if listeners:
            await serve(listeners)
        await trio.sleep_forever()


async def origin(runtime: Runtime, child: Child) -> None:
    """Media and thumbnails for the CDN."""
    config = runtime.config
    app = Origin(runtime.store, runtime.board, runtime.telemetry, config.http).application()
    limits = HttpLimits(
        max_connections=config.http.max_connections,
        max_connections_per_peer=config.http.max_connections_per_peer,
    )
    server = HttpServer(ObservedOrigin(app, runtime.telemetry), limits)
    runtime.active_requests = lambda: server.requests
    slots = limiting(runtime, "http.connections", lambda: Limiter(server.connections, config.http.max_connections))
    with slots, runtime.draining("origin", server.drain):
        listeners = await listen_for_clients(runtime, "http", config.http.bind)
        await serve_until_stopped(child, listeners, server.serve)
