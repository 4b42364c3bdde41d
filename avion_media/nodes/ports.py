"""The ports: the origin, gRPC, and the admin port with probes, metrics, the tree and the console."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType

import trio

from avion_media.common.errors import MediaError
from avion_media.common.settings import Bind
from avion_media.common.telemetry import instruments
from avion_media.common.telemetry.attributes import RPC_FAULTS
from avion_media.nodes.consumers import own_urls_of
from avion_media.nodes.credential_reload import open_callers, open_operators, open_tls
from avion_media.nodes.gauges import limiting
from avion_media.operations.review import Review
from avion_media.operations.table import Operations
from avion_media.process.audit import AuditLog
from avion_media.process.runtime import Limiter, Runtime
from avion_media.process.tree import Address, Tree
from avion_media.servers.admin.application import admin_application, operation_routes
from avion_media.servers.admin.operators import OperatorGate
from avion_media.servers.api.callers import Authoriser, Callers
from avion_media.servers.api.errors import map_exception
from avion_media.servers.api.media_service import MediaService, actor_of
from avion_media.servers.api.messages import capabilities_for_pages, capabilities_of
from avion_media.servers.api.recorded import action_of, recorded
from avion_media.servers.console import Console, Sessions, Uploads
from avion_media.servers.files import ADMIN_CONNECTIONS
from avion_media.servers.origin.app import SAFETY_HEADERS, Origin
from avion_media.servers.refusals import RefusalLog
from avion_media.servers.settings import GrpcConfig, ServerSettings, TlsSection
from supervisors import Child
from trio_grpc import CallContext, GrpcLimits, GrpcServer, HealthService, Hooks, RpcError
from trio_http1 import AsgiServer, HttpLimits, HttpServer
from trio_telemetry import NO_SPAN, OTHER, Span, Telemetry, get_logger

Listeners = list[trio.SocketListener]

_TRACED = "/avion."  # not the health checks of kubelets and balancers, of which each would be a trace
SERVICE_NAME = "avion.MediaService"
_MAX_METHOD = 100
_MAX_REQUEST_BYTES = 1 << 20  # the longest request, a RemoteMedia with its URL, has a few KiB
_log = get_logger()
_LIMITS = HttpLimits(ADMIN_CONNECTIONS, max_connections_per_peer=ADMIN_CONNECTIONS // 2, keep_alive_s=15.0)


class CannotListen(MediaError):
    """A port cannot be opened, most likely because another process has it; the text says which and why."""


async def listen(child: Child[Address], bind: Bind, *, for_clients: bool = True) -> Listeners:
    """Return the listeners of one port. A free port that was taken once (port 0) is kept over restarts of its node.

    Not ``for_clients``: none. A node that crashes while the process drains must not accept clients, as all must leave.
    A drain that begins from there on ends the server that gets the listeners. Raises `CannotListen`.
    """
    if not for_clients:
        return []
    port = child.last_value[1] if child.last_value else bind.port
    try:
        return await trio.open_tcp_listeners(port, host=bind.host or None)
    except OSError as error:
        raise CannotListen(f"cannot listen on {bind.host}:{port}: {error.strerror or error}") from None


async def serve_until_stopped(
    child: Child[Address], listeners: Listeners, serve: Callable[[Listeners], Awaitable[None]]
) -> None:
    """Report the address, and serve until the stop. Requests in progress are cut then: the drain came before.

    A server that was drained has ended already, and one without listeners has nothing to do: its node waits for the
    rest of the tree.
    """
    host, port, *_ = listeners[0].socket.getsockname() if listeners else child.last_value or ("", 0)
    child.started((str(host), int(port)))
    with child.until_stopping():
        if listeners:
            await serve(listeners)
        await trio.sleep_forever()


@asynccontextmanager
async def tls_of(server: HttpServer, config: TlsSection) -> AsyncIterator[None]:
    """Let the server use TLS if it is configured, with the newest version of its files. Raises `OSError`."""
    tls = open_tls(config)
    if tls is None:
        yield
        return
    server.ssl_context = lambda: tls.value
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tls.watch)
        yield
        nursery.cancel_scope.cancel()


async def origin(runtime: Runtime, child: Child[Address], *, config: ServerSettings) -> None:
    """Media and thumbnails for the CDN."""
    http = config.http
    handler = Origin(
        runtime.store,
        runtime.replay,
        runtime.moderation.status,
        runtime.telemetry,
        http,
        lambda: capabilities_for_pages(capabilities_of(runtime)),
        runtime.private,
        links_credentials=config.upload.credentials_link,
        cdn_max_age_s=config.private.cdn_max_age,
    ).handle
    limits = HttpLimits(http.max_connections, proxies=http.trusted_proxies, keep_alive_s=http.keep_alive)
    server = HttpServer(handler, limits, refusal_headers=SAFETY_HEADERS)
    runtime.observed.active_requests = lambda: server.requests
    slots = limiting(runtime, "http.connections", lambda: Limiter(server.connections, http.max_connections))
    with slots, runtime.draining("origin", server.drain):
        listeners = await listen(child, http.bind, for_clients=runtime.lifecycle.accepting_connections)
        async with tls_of(server, http):
            await serve_until_stopped(child, listeners, server.serve)


class ObservedCall(AbstractContextManager[None]):
    """Reports a call by a span and a metric: entered in its task before its handler, left once its code is known.

    ``methods`` are the paths that are served: what else a client asks for is counted, but not named. Not a generator,
    which costs each call 2 µs more.
    """

    __slots__ = ("_block", "_call", "_method", "_span", "_telemetry")

    def __init__(self, telemetry: Telemetry, methods: Container[str], call: CallContext) -> None:
        self._telemetry = telemetry
        self._call = call
        self._method = call.method[1:] if call.method in methods else OTHER
        self._block: AbstractContextManager[Span] = NO_SPAN
        self._span: Span = NO_SPAN

    def __enter__(self) -> None:
        if self._call.method.startswith(_TRACED) and self._method is not OTHER:
            parent = self._call.metadata.get("traceparent", "")
            self._block = self._telemetry.span(
                self._method, kind="server", parent=str(parent), rpc__system__name="grpc", rpc__method=self._method
            )
            self._span = self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        code = self._call.code.name
        fault = code if code in RPC_FAULTS else ""
        self._span.set(rpc__response__status_code=code)
        if fault:
            self._span.fail(fault)
        known = {"rpc__method": self._method, "rpc__response__status_code": code, "error__type": fault}
        self._telemetry.record(instruments.RPC_DURATION, self._call.duration_s, **known)
        self._block.__exit__(kind, error, traceback)


async def grpc(runtime: Runtime, child: Child[Address], *, config: ServerSettings) -> None:
    """MediaService, health and reflection; and what wakes the watchers."""
    grpc = config.grpc
    service = MediaService(runtime, own_urls_of(config))
    health = HealthService()
    tls, callers = open_tls(grpc), open_callers(grpc)
    server = GrpcServer(
        [recorded(service.service, Operations(runtime, "grpc"))],
        limits=GrpcLimits(
            max_connections=grpc.max_connections,
            proxies=config.http.trusted_proxies,
            max_age_s=grpc.max_connection_age,
            max_calls=grpc.max_calls,
            max_message_bytes=_MAX_REQUEST_BYTES,
        ),
        health=health,
        hooks=Hooks(
            map_exception,
            _on_error,
            observe=lambda call: ObservedCall(runtime.telemetry, methods, call),
            authorise=None if callers is None else _Authorising(grpc, lambda: callers.value, runtime.audit),
        ),
    )
    ssl_context = None if tls is None else lambda: tls.value
    methods = server.methods

    def tell(ready: bool) -> None:
        for name in ("", SERVICE_NAME):
            health.set_serving(name, is_serving=ready)

    forget = runtime.readiness.on_change(tell)
    try:
        calls = limiting(runtime, "rpc.calls", lambda: Limiter(server.calls, grpc.max_calls))
        connections = limiting(runtime, "rpc.connections", lambda: Limiter(server.connections, grpc.max_connections))
        with runtime.draining("grpc", server.drain), calls, connections:
            listeners = await listen(child, grpc.bind, for_clients=runtime.lifecycle.accepting_connections)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.watchers.keep_polling, runtime.items.statuses.get_many)
                nursery.start_soon(runtime.redis.state.keep_listening, service.watchers.channels)
                if tls is not None:
                    nursery.start_soon(tls.watch)
                if callers is not None:
                    nursery.start_soon(callers.watch, server.authorise_again)
                await serve_until_stopped(child, listeners, partial(server.serve, ssl_context=ssl_context))
                nursery.cancel_scope.cancel()
    finally:
        forget()


class _Authorising:
    """The check of callers, and a log of whom it refuses: one line at most in a while, for an operator who wonders."""

    def __init__(self, config: GrpcConfig, callers: Callable[[], Callers], audit: AuditLog) -> None:
        self._audit = audit
        self._check = Authoriser(
            callers, tokens=config.auth in ("token", "any"), certificates=config.auth in ("mtls", "any")
        )
        self._log = RefusalLog("rpc.refused")

    def __call__(self, call: CallContext) -> None:
        try:
            self._check(call)
        except RpcError as refusal:
            self._audit.refuse("grpc", actor_of(call), action_of(call.method), refusal.code.name)
            self._log.refused(
                code=refusal.code.name,
                caller=call.caller,
                method=call.method[:_MAX_METHOD],
                peer=call.peer.address,
            )
            raise


def _on_error(error_id: str, method: str, error: Exception) -> None:
    _log.error("rpc.internal_error", error_id=error_id, method=method, exc_info=error)


async def admin(runtime: Runtime, child: Child[Address], *, config: ServerSettings, tree: Callable[[], Tree]) -> None:
    """Up first, and answering through the whole drain."""
    operators = open_operators(config.admin)
    tokens = None if operators is None else lambda: operators.value
    sessions = Sessions(runtime.redis, tokens, secure=config.admin.is_https)
    gate = OperatorGate(
        tokens,
        local_only=config.admin.bind.is_loopback,
        public_url=config.admin.public_url,
        session_cookie=sessions.shown,
        session=sessions.operator,
        user_header=config.admin.user_header,
        role_header=config.admin.role_header,
        refused=lambda address, code: runtime.audit.refuse("admin", f"anyone at {address}", "request", code),
    )
    runtime.kill = tree().kill if config.chaos.enabled else None
    operations = Operations(runtime, "console")
    service = recorded(MediaService(runtime, own_urls_of(config)).service, operations)
    uploads = Uploads(service) if config.admin.uploads else None  # nobody watches in the upload box
    reviews = Review(runtime, operations)
    console = Console(runtime, config, tree(), gate, sessions, operations, reviews, uploads=uploads)
    app = admin_application(
        readiness=runtime.report,
        tree=lambda: {"phase": str(runtime.lifecycle.phase), **tree().describe()},
        telemetry=runtime.telemetry,
        gate=gate,
        pages=[
            *console.routes(),
            *operation_routes(Operations(runtime, "admin"), gate),
        ],
    )
    server = AsgiServer(app, replace(_LIMITS, proxies=config.admin.trusted_proxies))
    listeners = await listen(child, config.admin.bind)
    async with tls_of(server, config.admin), trio.open_nursery() as nursery:
        if operators is not None:
            nursery.start_soon(operators.watch)
        nursery.start_soon(reviews.run)
        await serve_until_stopped(child, listeners, server.serve)
        nursery.cancel_scope.cancel()
