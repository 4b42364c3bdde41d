"""The admin port: probes, metrics, the tree, and the console."""

from __future__ import annotations

from collections.abc import Callable

import trio

from avion_media.nodes.consumers import guard_of
from avion_media.nodes.credential_reload import open_operators
from avion_media.nodes.ports import listen, serve_until_stopped
from avion_media.operations.operation import OperatedService
from avion_media.operations.table import Operations
from avion_media.process.runtime import Runtime
from avion_media.process.tree import Address, Tree
from avion_media.servers.admin import OperatorGate, admin_application, operation_routes
from avion_media.servers.api.media_service import MediaService
from avion_media.servers.api.statuses import StatusResolver
from avion_media.servers.api.watch import Watchers
from avion_media.servers.console import Console, Sessions, Uploads
from avion_media.servers.http1 import AsgiServer, HttpLimits
from avion_media.servers.settings import ServerSettings
from supervisors import Child

_LIMITS = HttpLimits(max_connections=256, max_connections_per_peer=128, keep_alive_s=15.0)


async def admin(runtime: Runtime, child: Child[Address], *, config: ServerSettings, tree: Callable[[], Tree]) -> None:
    """Up first, and answering through the whole drain."""
    operators = open_operators(config.admin)
    sessions = Sessions()
    gate = OperatorGate(
        None if operators is None else lambda: operators.value,
        local_only=config.admin.bind.is_loopback,
        session=sessions.is_open,
    )
    uploads = _uploads(runtime) if config.admin.uploads else None
    operations = Operations(OperatedService.of(runtime, tree().kill if config.chaos.enabled else None))
    console = Console(runtime, config, tree(), gate, sessions, operations, uploads=uploads)
    app = admin_application(
        readiness=runtime.report,
        tree=lambda: {"phase": str(runtime.lifecycle.phase), **tree().describe()},
        telemetry=runtime.telemetry,
        gate=gate,
        pages=[
            *console.routes(),
            *operation_routes(operations, gate),
        ],
    )
    server = AsgiServer(app, _LIMITS)
    listeners = await listen(child, config.admin.bind)
    async with trio.open_nursery() as nursery:
        if operators is not None:
            nursery.start_soon(operators.watch)
        await serve_until_stopped(child, listeners, server.serve)
        nursery.cancel_scope.cancel()


def _uploads(runtime: Runtime) -> Uploads:
    """The upload box's side of things; nobody watches there, so its service needs no subscription."""
    config = runtime.config
    statuses = StatusResolver(runtime.items, runtime.replay, runtime.moderation.status, config.upload)
    return Uploads(MediaService(runtime, guard_of(runtime.config.remote), statuses, Watchers()))
