"""The gRPC port."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import trio

from avion_media.common.telemetry import get_logger
from avion_media.nodes.consumers import guard_of
from avion_media.nodes.credential_reload import open_callers, open_tls
from avion_media.nodes.gauges import limiting
from avion_media.nodes.observed_calls import ObservedCall
from avion_media.nodes.ports import listen_for_clients, serve_until_stopped
from avion_media.process.runtime import Limiter, Runtime
from avion_media.process.tree import Address
from avion_media.servers.api.callers import Authoriser, Callers
from avion_media.servers.api.errors import map_exception
from avion_media.servers.api.media_service import MediaService
from avion_media.servers.api.statuses import StatusResolver
from avion_media.servers.api.watch import Watchers
from avion_media.servers.settings import GrpcConfig
from supervisors import Child
from trio_grpc import CallContext, GrpcLimits, GrpcServer, Health, Hooks, RpcError

SERVICE_NAME = "avion.MediaService"
_REFUSALS_EVERY_S = 10.0
_MAX_METHOD = 100
_MAX_REQUEST_BYTES = 1 << 20  # the longest request, a RemoteMedia with its URL, has a few KiB
_log = get_logger()


async def grpc(runtime: Runtime, child: Child[Address], *, config: GrpcConfig) -> None:
    """MediaService, health and reflection; and what wakes the watchers."""
    shared, watchers = runtime.config, Watchers()
    statuses = StatusResolver(runtime.items, runtime.replay, runtime.moderation.status, shared.upload)
    service = MediaService(runtime, guard_of(shared.remote), statuses, watchers)
    health = Health()
    tls, callers = open_tls(config), open_callers(config)
    server = GrpcServer(
        [service.service],
        limits=limits_of(config),
        health=health,
        hooks=Hooks(
            map_exception,
            _on_error,
            observe=lambda call: ObservedCall(runtime.telemetry, methods, call),
            authorise=None if callers is None else _Authorising(config, lambda: callers.value),
        ),
    )
    ssl_context = None if tls is None else lambda: tls.value
    methods = server.methods

    def tell(ready: bool) -> None:
        for name in ("", SERVICE_NAME):
            health.set_serving(name, is_serving=ready)

    forget = runtime.readiness.on_change(tell)
    try:
        calls = limiting(runtime, "rpc.calls", lambda: Limiter(server.calls, config.max_calls))
        connections = limiting(runtime, "rpc.connections", lambda: Limiter(server.connections, config.max_connections))
        with runtime.draining("grpc", server.drain), calls, connections:
            listeners = await listen_for_clients(runtime, child, config.bind)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wake_watchers, runtime, watchers)
                for files in (tls, callers):
                    if files is not None:
                        nursery.start_soon(files.watch)
                await serve_until_stopped(child, listeners, partial(server.serve, ssl_context=ssl_context))
                nursery.cancel_scope.cancel()
    finally:
        forget()


def limits_of(config: GrpcConfig) -> GrpcLimits:
    """The transport's limits as configured."""
    return GrpcLimits(
        max_connections=config.max_connections,
        max_age_s=config.max_connection_age,
        max_calls=config.max_calls,
        max_message_bytes=_MAX_REQUEST_BYTES,
    )


class _Authorising:
    """The check of callers, and a log of whom it refuses: one line at most in a while, for an operator who wonders."""

    def __init__(self, config: GrpcConfig, callers: Callable[[], Callers]) -> None:
        self._check = Authoriser(
            callers, tokens=config.auth in ("token", "any"), certificates=config.auth in ("mtls", "any")
        )
        self._refused = 0
        self._logged_at = -math.inf

    def __call__(self, call: CallContext) -> None:
        try:
            self._check(call)
        except RpcError as refusal:
            self._refused += 1
            now = trio.current_time()
            if now - self._logged_at >= _REFUSALS_EVERY_S:
                _log.warning(
                    "rpc.refused",
                    code=refusal.code.name,
                    caller=call.caller,
                    method=call.method[:_MAX_METHOD],
                    peer=call.peer.address,
                    since_last_line=self._refused,
                )
                self._refused, self._logged_at = 0, now
            raise


async def _wake_watchers(runtime: Runtime, watchers: Watchers) -> None:
    stored = runtime.items.statuses
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchers.keep_polling, stored.get_many)
        await stored.listen(watchers.notify, watchers.notify_all)


def _on_error(error_id: str, method: str, error: Exception) -> None:
    _log.error("rpc.internal_error", error_id=error_id, method=method, exc_info=error)
