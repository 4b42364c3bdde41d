"""The origin: ``GET|HEAD /media/{id}`` and ``/thumbnail/{size}/{id}`` (contract, section 5).

A request reads the object store and nothing else decides: no fetch, no decode, no queue. Redis is asked only for
tombstones, and the origin goes on without it.

Two modes: *proxy* streams the bytes through this process; *redirect* answers with a short-lived presigned URL of the
store (307), for stores that clients or the CDN reach better themselves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Protocol

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from avion_media.config import HttpConfig
from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing, PreconditionFailed, Unavailable
from avion_media.domain.formats import JPEG
from avion_media.domain.ids import AnyId, InvalidId, parse_any_id
from avion_media.domain.media import is_size_name
from avion_media.net import peer_of_host
from avion_media.origin.answers import (
    GONE,
    SAFETY_HEADERS,
    Target,
    object_headers,
    on_defect,
    on_http_error,
    plain,
    quoted,
    try_again,
    unsatisfiable,
    validators,
)
from avion_media.origin.body import RangeBody, WindowMemory, open_body
from avion_media.origin.conditional import Unsatisfiable, forwardable_range, is_not_modified, parse_range, range_applies
from avion_media.origin.server_timing import ServerTiming
from avion_media.store import ByteRange, ObjectStore, RangeNotSatisfiable
from avion_media.telemetry import Telemetry, get_logger, instruments

_CONDITIONS = ("if-none-match", "if-modified-since", "if-range")
_TOMBSTONE_S = 1.0
_STORE_S = 8.0  # until the headers of an answer: less than a CDN waits
_NO_BYTES = (None, 0)  # "the last 0 bytes" cannot be asked of a store
_log = get_logger(path="service/origin")


class Tombstones(Protocol):
    """What the origin asks of Redis."""

    async def is_tombstoned(self, media_id: str) -> bool:
        """Whether the medium was deleted; `Unavailable` while Redis is away."""


class StoreSlot(Protocol):
    """Gives the open store."""

    def get(self) -> ObjectStore:
        """The store; `Unavailable` while it is not started."""


class Origin:
    """The ASGI application; build it with `application`."""

    def __init__(
        self,
        store: StoreSlot,
        tombstones: Tombstones,
        telemetry: Telemetry,
        config: HttpConfig,
    ) -> None:
        self._store = store
        self._tombstones = tombstones
        self._telemetry = telemetry
        self._memory = WindowMemory()
        self._redirects = config.mode == "redirect"
        self._redirect_ttl_s = int(config.redirect_ttl)

    def application(self) -> Starlette:
        """The routes, with every answer, errors too, carrying the safety headers."""
        application = Starlette(
            routes=[
                Route("/media/{id}", self._media, methods=["GET"]),
                Route("/thumbnail/{size}/{id}", self._thumbnail, methods=["GET"]),
            ],
            exception_handlers={HTTPException: on_http_error, Exception: on_defect},
        )
        # Starlette would send a path with a slash too many to wherever the client's Host says, for caches to keep.
        application.router.redirect_slashes = False
        return application

    async def _media(self, request: Request) -> Response:
        any_id = _parse_id(request.path_params["id"])
        if any_id is None:
            return plain(404, "no such medium")
        return await self._observed(request, Target("/media/{id}", any_id, keys.original(any_id)))

    async def _thumbnail(self, request: Request) -> Response:
        any_id = _parse_id(request.path_params["id"])
        size = request.path_params["size"]
        if any_id is None or not is_size_name(size):
            return plain(404, "no such thumbnail")
        key = keys.thumbnail(any_id, size)  # of whatever configuration: URLs outlive it
        return await self._observed(request, Target("/thumbnail/{size}/{id}", any_id, key, JPEG.content_type))

    async def _observed(self, request: Request, target: Target) -> Response:
        timing = ServerTiming()
        response = await self._answer(request, target, timing)
        response.headers["Server-Timing"] = timing.header()
        return response

    async def _answer(self, request: Request, target: Target, timing: ServerTiming) -> Response:
        try:
            with timing.measured("tombstone"):
                deleted = await self._deleted(str(target.any_id))
            if deleted:
                return plain(410, "this medium was deleted", cache_control=GONE)
            with timing.measured("store"), trio.fail_after(_STORE_S):
                return await self._from_store(request, target)
        except ObjectMissing:
            return plain(404, "no such medium")
        except PreconditionFailed:  # the object was replaced between two requests: the client can repeat its own
            return try_again()
        except trio.TooSlowError:
            _log.warning("origin.unavailable", what="store", media_id=str(target.any_id), waited_s=_STORE_S)
            return try_again()
        except Unavailable as error:
            _log.warning("origin.unavailable", what=error.what, media_id=str(target.any_id))
            return try_again(error.retry_after_s)

    async def _deleted(self, media_id: str) -> bool:
        try:
            with trio.fail_after(_TOMBSTONE_S):
                return await self._tombstones.is_tombstoned(media_id)
        except (Unavailable, trio.TooSlowError):
            return False  # Redis away: serve what the store has; removal itself happens in the store

    async def _from_store(self, request: Request, target: Target) -> Response:
        if self._redirects and request.method != "HEAD":  # a URL signed for GET is refused to whoever HEADs it
            return await self._redirect(target)
        byte_range = forwardable_range(request.headers.get("range"))
        needs_facts = any(name in request.headers for name in _CONDITIONS) or byte_range == _NO_BYTES
        if request.method == "HEAD" or needs_facts:
            return await self._conditional(request, target)
        try:
            return await self._stream(request, target, byte_range)
        except RangeNotSatisfiable:
            info = await self._store.get().head(target.key)
            return unsatisfiable(info.size_bytes)

    async def _redirect(self, target: Target) -> Response:
        """307 to the store. Caches may keep it for half of the URL's life: whoever follows it has the other half."""
        store = self._store.get()
        content_type, disposition = target.served_as(await store.head(target.key))
        url = store.presign_get(
            target.key,
            expires_s=self._redirect_ttl_s,
            content_type=content_type,
            content_disposition=disposition,
        )
        cache_control = f"public, max-age={self._redirect_ttl_s // 2}"
        return Response(status_code=307, headers={"Location": url, "Cache-Control": cache_control, **SAFETY_HEADERS})

    async def _conditional(self, request: Request, target: Target) -> Response:
        """Decided by the facts alone; the body is read only when it is sent."""
        asked = request.headers
        info = await self._store.get().head(target.key)
        etag = quoted(info.etag)
        lines = asked.getlist("if-none-match")
        known = ", ".join(lines) if lines else None  # a list in several lines is one list (RFC 9110, 5.3)
        if is_not_modified(known, asked.get("if-modified-since"), etag, info.last_modified):
            return Response(status_code=304, headers=validators(info))
        if request.method == "HEAD":  # Range is defined for GET alone (RFC 9110, 14.2)
            headers = object_headers(info, target) | {"Content-Length": str(info.size_bytes)}
            return Response(status_code=200, headers=headers)
        byte_range = (
            parse_range(asked.get("range"), info.size_bytes)
            if range_applies(asked.get("if-range"), etag, info.last_modified)
            else None
        )
        if isinstance(byte_range, Unsatisfiable):
            return unsatisfiable(info.size_bytes)
        return await self._stream(request, target, byte_range, etag=info.etag)

    async def _stream(
        self, request: Request, target: Target, byte_range: ByteRange | None, *, etag: str | None = None
    ) -> Response:
        """Raises RangeNotSatisfiable, PreconditionFailed; otherwise the response closes the body."""
        stack = AsyncExitStack()
        peer = peer_of_host(request.client.host) if request.client else ""
        body = await stack.enter_async_context(
            open_body(self._store.get(), self._memory, peer, target.key, byte_range, etag)
        )
        headers = object_headers(body.info, target)
        headers["Content-Length"] = str(body.length_bytes)
        status = 200
        if body.content_range is not None:
            status = 206
            headers["Content-Range"] = str(body.content_range)
        return _StoreResponse(self._counted(body, target), stack, status_code=status, headers=headers)

    async def _counted(self, body: RangeBody, target: Target) -> AsyncGenerator[bytes, None]:
        async with aclosing(body.windows()) as windows:
            async for window in windows:
                self._telemetry.count(instruments.ORIGIN_SENT, len(window), http__route=target.route)
                yield window


class _StoreResponse(StreamingResponse):
    """Streams a body, and closes it however the response ends."""

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        stack: AsyncExitStack,
        *,
        status_code: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(content, status_code=status_code, headers=headers)
        self._content = content
        self._stack = stack

    async def __call__(self, _scope, _receive, send) -> None:  # type: ignore[no-untyped-def]
        async with self._stack, aclosing(self._content):
            await self.stream_response(send)  # nobody need listen for a disconnect: the server cancels us then


def _parse_id(text: str) -> AnyId | None:
    try:
        return parse_any_id(text)
    except InvalidId:
        return None
