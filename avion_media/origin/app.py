"""The origin: ``GET|HEAD /media/{id}`` and ``/thumbnail/{size}/{id}`` (contract, section 5).

A request reads the object store and nothing else decides: no fetch, no decode, no queue. Redis is asked only for
tombstones, and the origin goes on without it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing, PreconditionFailed, Unavailable
from avion_media.domain.formats import JPEG
from avion_media.domain.ids import AnyId, InvalidId, parse_any_id
from avion_media.domain.media import ThumbnailSize, facts_from_metadata
from avion_media.origin.conditional import Unsatisfiable, http_date, is_not_modified, parse_range, range_applies
from avion_media.store import ObjectInfo, ObjectStore
from avion_media.telemetry import Telemetry, get_logger, instruments

IMMUTABLE = "public, max-age=31536000, immutable"
NEGATIVE = "public, max-age=10"
GONE = "public, max-age=60"  # shorter than for ever: a deletion can be undone within its delay
SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_log = get_logger(path="service/origin")


class Tombstones(Protocol):
    """What the origin asks of Redis."""

    async def is_tombstoned(self, media_id: str) -> bool:
        """Whether the medium was deleted; `Unavailable` while Redis is away."""


class StoreSlot(Protocol):
    """Gives the open store."""

    def get(self) -> ObjectStore:
        """The store; `Unavailable` while it is not started."""


class TombstoneSlot(Protocol):
    """Gives the open status board."""

    def get(self) -> Tombstones:
        """The board; `Unavailable` while it is not started."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What one request asks for."""

    any_id: AnyId
    key: str
    content_type: str | None  # None: from the object's own facts


class Origin:
    """The ASGI application; build it with `application`."""

    def __init__(
        self, store: StoreSlot, tombstones: TombstoneSlot, sizes: tuple[ThumbnailSize, ...], telemetry: Telemetry
    ) -> None:
        self._store = store
        self._tombstones = tombstones
        self._size_names = frozenset(size.name for size in sizes)
        self._telemetry = telemetry

    def application(self) -> Starlette:
        """The routes, with every answer, errors too, carrying the safety headers."""
        return Starlette(
            routes=[
                Route("/media/{id}", self._media, methods=["GET"]),
                Route("/thumbnail/{size}/{id}", self._thumbnail, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _on_http_error, Exception: _on_defect},
        )

    async def _media(self, request: Request) -> Response:
        any_id = _parse_id(request.path_params["id"])
        if any_id is None:
            return plain(404, "no such medium")
        return await self._timed(request, "/media/{id}", _Target(any_id, keys.original(any_id), None))

    async def _thumbnail(self, request: Request) -> Response:
        any_id = _parse_id(request.path_params["id"])
        size = request.path_params["size"]
        if any_id is None or size not in self._size_names:
            return plain(404, "no such thumbnail")
        target = _Target(any_id, keys.thumbnail(any_id, size), JPEG.content_type)
        return await self._timed(request, "/thumbnail/{size}/{id}", target)

    async def _timed(self, request: Request, route: str, target: _Target) -> Response:
        started = time.monotonic()
        status = 500
        try:
            response = await self._answer(request, route, target)
            status = response.status_code
            return response
        finally:
            self._telemetry.record(
                instruments.HTTP_DURATION,
                time.monotonic() - started,
                http__route=route,
                http__request__method=request.method,
                http__response__status_code=status,
            )

    async def _answer(self, request: Request, route: str, target: _Target) -> Response:
        try:
            if await self._deleted(str(target.any_id)):
                return plain(410, "this medium was deleted", cache_control=GONE)
            return await self._from_store(request, route, target)
        except ObjectMissing:
            return plain(404, "no such medium")
        except Unavailable as error:
            _log.warning("origin.unavailable", what=error.what, media_id=str(target.any_id))
            retry_after = str(max(1, round(error.retry_after_s)))
            return plain(503, "try again soon", cache_control="no-store", headers={"Retry-After": retry_after})

    async def _deleted(self, media_id: str) -> bool:
        try:
            return await self._tombstones.get().is_tombstoned(media_id)
        except Unavailable:
            return False  # Redis away: serve what the store has; removal itself happens in the store

    async def _from_store(self, request: Request, route: str, target: _Target) -> Response:
        asked = request.headers
        store = self._store.get()
        if request.method == "HEAD" or any(
            name in asked for name in ("range", "if-none-match", "if-modified-since", "if-range")
        ):
            info = await store.head(target.key)
            return await self._conditional(request, route, target, info)
        return await self._stream(route, target, None, None)

    async def _conditional(self, request: Request, route: str, target: _Target, info: ObjectInfo) -> Response:
        asked = request.headers
        etag = _quoted(info.etag)
        if is_not_modified(asked.get("if-none-match"), asked.get("if-modified-since"), etag, info.last_modified):
            return Response(status_code=304, headers=_without_body(_headers(info, target)))
        byte_range = (
            parse_range(asked.get("range"), info.size_bytes)
            if range_applies(asked.get("if-range"), etag, info.last_modified)
            else None
        )
        if isinstance(byte_range, Unsatisfiable):
            headers = {"Content-Range": f"bytes */{info.size_bytes}", "Accept-Ranges": "bytes"}
            return plain(416, "the range lies beyond the end", cache_control="no-store", headers=headers)
        if request.method == "HEAD":
            headers = _headers(info, target) | {"Content-Length": str(info.size_bytes)}
            return Response(status_code=200, headers=headers)
        return await self._stream(route, target, byte_range, info)

    async def _stream(
        self, route: str, target: _Target, byte_range: tuple[int, int] | None, known: ObjectInfo | None
    ) -> Response:
        stack = AsyncExitStack()
        try:
            body = await stack.enter_async_context(
                self._store.get().open_body(target.key, byte_range, if_match=known.etag if known else None)
            )
        except PreconditionFailed:  # replaced between the two calls: the client may simply ask again
            return plain(503, "try again soon", cache_control="no-store", headers={"Retry-After": "1"})
        info = body.info if known is None else replace(body.info, size_bytes=known.size_bytes)
        headers = _headers(info, target)
        if byte_range is None:
            status, length = 200, info.size_bytes
        else:
            first, last = byte_range
            status, length = 206, last - first + 1
            headers["Content-Range"] = f"bytes {first}-{last}/{info.size_bytes}"
        headers["Content-Length"] = str(length)
        return _StoreResponse(self._chunks(stack, body, route), stack, status_code=status, headers=headers)

    async def _chunks(self, stack: AsyncExitStack, body: AsyncIterator[bytes], route: str) -> AsyncIterator[bytes]:
        async with stack:
            async for chunk in body:
                self._telemetry.count(instruments.ORIGIN_SENT, len(chunk), http__route=route)
                yield chunk


class _StoreResponse(StreamingResponse):
    """Streams a store body, and gives its connection back however the response ends."""

    def __init__(
        self, content: AsyncIterator[bytes], stack: AsyncExitStack, *, status_code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(content, status_code=status_code, headers=headers)
        self._stack = stack

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        async with self._stack:
            await super().__call__(scope, receive, send)


def _parse_id(text: str) -> AnyId | None:
    try:
        return parse_any_id(text)
    except InvalidId:
        return None


def _quoted(etag: str) -> str:
    return '"' + etag.removeprefix("W/").strip('"') + '"'


def _headers(info: ObjectInfo, target: _Target) -> dict[str, str]:
    content_type, disposition = target.content_type, "inline"
    if content_type is None:
        facts = facts_from_metadata(info.metadata, info.size_bytes)
        content_type = facts.format.content_type if facts else "application/octet-stream"
        disposition = "inline" if facts else "attachment"
    return {
        "Content-Type": content_type,
        "Content-Disposition": disposition,
        "ETag": _quoted(info.etag),
        "Last-Modified": http_date(info.last_modified),
        "Cache-Control": IMMUTABLE,
        "Accept-Ranges": "bytes",
        **SAFETY_HEADERS,
    }


def _without_body(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Content-Type"}


def plain(
    status: int, text: str, *, cache_control: str = NEGATIVE, headers: Mapping[str, str] | None = None
) -> Response:
    """A short text answer with the safety headers."""
    return Response(
        text + "\n",
        status,
        media_type="text/plain",
        headers={"Cache-Control": cache_control, **SAFETY_HEADERS, **(headers or {})},
    )


async def _on_http_error(_request: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    cache_control = NEGATIVE if error.status_code == 404 else "no-store"
    return plain(error.status_code, error.detail, cache_control=cache_control, headers=error.headers)


async def _on_defect(_request: Request, error: Exception) -> Response:
    """A defect of ours: the client learns nothing, the log everything."""
    _log.error("origin.defect", exc_info=error)
    return plain(500, "internal error", cache_control="no-store")
