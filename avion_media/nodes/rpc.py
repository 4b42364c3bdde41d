"""The gRPC port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from avion_media.api.errors import map_exception
from avion_media.api.media_service import MediaService
from avion_media.api.statuses import Statuses
from avion_media.api.watch import Watchers
from avion_media.config import GrpcConfig
from avion_media.grpc import Call, GrpcLimits, GrpcServer, Health
from avion_media.nodes.consumers import guard_of
from avion_media.nodes.ports import listen, serve_until_stopped, tls_context
from avion_media.runtime import Runtime
from avion_media.telemetry import get_logger, instruments
from supervisors import Child

SERVICE_NAME = "avion.MediaService"
_log = get_logger(path="service/grpc")


async def grpc(runtime: Runtime, child: Child) -> None:
    """MediaService, health and reflection; and the one subscription that wakes watchers."""
    config = runtime.config
    watchers = Watchers()
    statuses = Statuses(runtime.store, runtime.board, config.thumbnails.sizes, config.upload.url_ttl)
    service = MediaService(runtime, guard_of(runtime), statuses, watchers)
    health = Health()
    server = GrpcServer(
        [service.service],
        limits=limits_of(config.grpc),
        health=health,
        map_exception=map_exception,
        on_error=_on_error,
        observe=lambda call: _observed(runtime, call),
    )
    ssl_context = tls_context(config.grpc)
    listeners = await listen(runtime, "grpc", config.grpc.bind)

    def tell(ready: bool) -> None:
        for name in ("", SERVICE_NAME):
            (health.set_serving if ready else health.set_not_serving)(name)

    forget = runtime.on_readiness(tell)
    try:
        with runtime.draining("grpc", server.drain):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wake_watchers, runtime, watchers)
                await serve_until_stopped(child, lambda: server.serve(listeners, ssl_context))
                nursery.cancel_scope.cancel()
    finally:
        forget()


def limits_of(config: GrpcConfig) -> GrpcLimits:
    """The transport's limits as configured."""
    return GrpcLimits(
        max_connections=config.max_connections,
        max_streams=config.max_streams,
        max_calls=config.max_calls,
        max_message_bytes=config.max_message,
    )


async def _wake_watchers(runtime: Runtime, watchers: Watchers) -> None:
    board = await runtime.board.wait()
    await board.listen(watchers.ring, watchers.ring_all)


def _on_error(error_id: str, method: str, error: Exception) -> None:
    _log.error("rpc.defect", error_id=error_id, method=method, exc_info=error)


@contextmanager
def _observed(runtime: Runtime, call: Call) -> Iterator[None]:
    """A span and a measurement around each call."""
    traceparent = call.metadata.get("traceparent", "")
    name = call.method.lstrip("/")
    with runtime.telemetry.span(
        name, kind="server", parent=str(traceparent), rpc__system__name="grpc", rpc__method=name
    ):
        yield
    runtime.telemetry.record(
        instruments.RPC_DURATION, call.duration_s, rpc__method=name, rpc__response__status_code=call.code.name
    )
