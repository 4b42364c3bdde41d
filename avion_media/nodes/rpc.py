"""The gRPC port."""

from __future__ import annotations

import trio

from avion_media.api.media_service import MediaService
from avion_media.api.statuses import Statuses
from avion_media.api.watch import Watchers
from avion_media.nodes.consumers import guard_of
from avion_media.runtime import Runtime
from supervisors import Child


import purerpc  # isort: skip


async def grpc(runtime: Runtime, child: Child) -> None:
    config = runtime.config
    statuses = Statuses(runtime.store, runtime.board, config.thumbnails.sizes, config.upload.url_ttl)
    watchers = Watchers()
    service = MediaService(runtime, guard_of(runtime), statuses, watchers)
    server = purerpc.Server(config.grpc.bind.port)
    server.add_service(service.service)
    runtime.addresses["grpc"] = (config.grpc.bind.host, config.grpc.bind.port)
    async with trio.open_nursery() as n:
        n.start_soon(server.serve_async)
        n.start_soon((await runtime.board.wait()).listen, watchers.ring, watchers.ring_all)
        child.ready()
        await child.stopping.wait()
        n.cancel_scope.cancel()
