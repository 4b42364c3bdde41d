"""The origin: ``GET|HEAD /media/{id}``, ``/thumbnail/{size}/{id}`` and ``/capabilities`` (docs/contract.md, section 5).

A request reads the object store and nothing else decides: no fetch, no decode, no queue. Redis is queried only for
deletions. While it is unavailable the origin serves what the store has, for caches to keep a short time. While it has
lost deletions, and their journal is being replayed, the origin answers 503.

The three modes (*proxy*, *redirect* and *accel*) are compared in docs/cdn.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from avion_media.backends.store import ByteRange, ObjectStore, RangeNotSatisfiable
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.resources import Deletions, ResourceSlot
from avion_media.common.telemetry import Telemetry, get_logger, instruments
from avion_media.items.moderation import ModerationStatus
from avion_media.servers.http1 import Request, Response
from avion_media.servers.origin import responses
from avion_media.servers.origin.body import RangeBody, WindowMemory
from avion_media.servers.origin.responses import Timing, observed
from avion_media.servers.settings import HttpConfig

_STORE_S = 8.0  # until the headers of a response: less than a CDN waits
_NO_BYTES = (None, 0)  # "the last 0 bytes" cannot be asked of a store
_BLOCKED = "this media item was blocked"
_log = get_logger()


@dataclass(eq=False)
class Origin:
    """The origin's handler is `handle`."""

    store: ResourceSlot[ObjectStore]
    deletions: Deletions
    moderation: ModerationStatus
    telemetry: Telemetry
    config: HttpConfig
    capabilities: Callable[[], Mapping[str, Any]]
    memory: WindowMemory = field(default_factory=WindowMemory, init=False)

    async def handle(self, request: Request) -> Response:
        """The response to any request: every one carries the safety headers."""
        response = await observed(self.telemetry, request, self._respond)
        response.headers.update(responses.SAFETY_HEADERS)
        return response

    async def _respond(self, request: Request, route: str, timing: Timing) -> Response:
        if route is responses.NO_ROUTE:
            return responses.plain(404, "no such path")
        if request.method not in responses.METHODS:
            return responses.plain(405, "GET and HEAD only", cache_control="no-store", headers={"Allow": "GET, HEAD"})
        target = responses.target_of(request.path)
        if target is None and route is not responses.CAPABILITIES:
            return responses.plain(404, "media item not found")
        if request.query is not None:
            return responses.moved(request.path)
        if target is None:
            return responses.capabilities(self.capabilities())
        media_id = str(target.any_id)
        try:
            with timing.measured("tombstone"):
                deleted = await self._deleted(media_id)
            if deleted:
                return responses.plain(410, "this media item was deleted", cache_control=responses.GONE)
            with timing.measured("store"), trio.move_on_after(_STORE_S):
                cache_control = responses.UNCERTAIN if deleted is None else responses.IMMUTABLE
                try:
                    if not await self.moderation.is_blocked_despite_objects(media_id):
                        return await self._from_store(request, target, cache_control)
                except ObjectMissing:  # a block removes the objects, and leaves its record
                    if not await self.moderation.is_blocked(media_id):
                        return responses.plain(404, "media item not found")
                return responses.plain(451, _BLOCKED, cache_control=responses.GONE)
            _log.warning("origin.unavailable", dependency="store", media_id=media_id, waited_s=_STORE_S)
            return responses.try_again()
        except PreconditionFailed:  # the object was replaced between two requests: the client can repeat its own
            return responses.try_again()
        except Unavailable as error:
            _log.warning("origin.unavailable", dependency=error.dependency, media_id=media_id)
            return responses.try_again(error.retry_after_s)

    async def _deleted(self, media_id: str) -> bool | None:
        """Return whether the media item was deleted; None while Redis is unavailable.

        The origin then serves what the store has, but not for long: a cache must not keep for a year what may have been
        deleted. Redis that answers and has lost deletions is another matter: that raises `Unavailable`.
        """
        try:
            return await self.deletions.is_deleted(media_id)
        except Unavailable as error:
            if error.dependency is Dependency.DELETIONS:
                raise
            return None

    async def _from_store(self, request: Request, target: responses.Target, cache_control: str) -> Response:
        if self.config.mode != "proxy" and request.method != "HEAD":  # a URL that is signed for GET serves no HEAD
            return await self._handed_over(target, cache_control)
        byte_range = responses.forwardable_range(request.headers.get("range"))
        needs_facts = any(name in request.headers for name in responses.CONDITIONS) or byte_range == _NO_BYTES
        try:
            if request.method == "HEAD" or needs_facts:
                return await self._conditional(request, target, cache_control)
            return await self._object(request, target, byte_range, cache_control)
        except RangeNotSatisfiable:
            info = await self.store.get().head(target.key)
            return responses.unsatisfiable(info.size_bytes)

    async def _handed_over(self, target: responses.Target, cache_control: str) -> Response:
        """The store's URL, for the client (307) or for nginx (``X-Accel-Redirect``).

        Caches may keep a redirect for half of the URL's life: a client that follows it then has the other half.
        """
        store, ttl_s = self.store.get(), int(self.config.redirect_ttl)
        content_type, disposition = target.served_as(await store.head(target.key))
        shown = {"content_type": content_type, "content_disposition": disposition}
        url = store.downloads.get(target.key, expires_s=ttl_s, now=datetime.now(UTC), **shown)
        if self.config.mode == "accel":
            internal = responses.accel_uri(url, brief=cache_control is responses.UNCERTAIN)
            headers = {"Content-Type": content_type, "Content-Disposition": disposition, "X-Accel-Redirect": internal}
            return Response(200, headers)
        if cache_control is responses.IMMUTABLE:
            cache_control = f"public, max-age={ttl_s // 2}"
        return Response(307, {"Location": url, "Cache-Control": cache_control})

    async def _conditional(self, request: Request, target: responses.Target, cache_control: str) -> Response:
        """Decided by the facts alone; the body is read only when it is sent. Raises as `_object` does."""
        headers = request.headers
        info = await self.store.get().head(target.key)
        etag = responses.quoted(info.etag)
        match responses.failed_precondition(headers, etag, info.last_modified):
            case 412:
                return responses.plain(412, "the object is another version", cache_control="no-store")
            case 304:
                return Response(304, responses.validators(info, cache_control))
        if request.method == "HEAD":  # Range is defined for GET alone (RFC 9110, 14.2)
            length = {"Content-Length": str(info.size_bytes)}
            return Response(200, responses.object_headers(info, target, cache_control) | length)
        applies = responses.range_applies(headers.get("if-range"), etag, info.last_modified)
        byte_range = responses.parse_range(headers.get("range"), info.size_bytes) if applies else None
        return await self._object(request, target, byte_range, cache_control, etag=info.etag)

    async def _object(
        self,
        request: Request,
        target: responses.Target,
        byte_range: ByteRange | None,
        cache_control: str,
        etag: str | None = None,
    ) -> Response:
        """200 or 206. Raises RangeNotSatisfiable, PreconditionFailed."""
        on_sent = partial(self.telemetry.count, instruments.ORIGIN_SENT, http__route=target.route)
        body = RangeBody(self.store.get(), self.memory, request.peer, target.key, on_sent)
        try:
            await body.open(byte_range, etag)
        except BaseException:
            body.close()
            raise
        headers = responses.object_headers(body.info, target, cache_control)
        if body.content_range is None:
            return Response(200, headers, body)
        return Response(206, headers | {"Content-Range": str(body.content_range)}, body)
