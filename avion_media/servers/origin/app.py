"""The origin: ``GET|HEAD`` of ``/media/{id}``, its credentials, ``/thumbnail/{size}/{id}`` and ``/capabilities``.

A request reads the object store and nothing else decides: no fetch, no decode, no queue. Redis is queried only for
deletions. While it is unavailable the origin serves what the store has, for caches to keep a short time. While it has
lost deletions, and their journal is being replayed, the origin answers 503.

Private media have a token in their paths (docs/private-media.md). Each request for one is checked, also for its head or
a range. No response says more to those without a token than 404.

The three modes (*proxy*, *redirect* and *accel*) are compared in docs/cdn.md.

The responses: their headers (docs/contract.md, section 5), conditions and ranges (RFC 9110, sections 13 and 14), and
what is measured of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

from avion_media.backends.store import ByteRange, ObjectInfo, ObjectStore, RangeNotSatisfiable, stored_facts, within
from avion_media.common import keys
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.formats import JPEG, WEBP
from avion_media.common.ids import AnyId, MediaId, RemoteId, id_or_none, is_private
from avion_media.common.media import MANIFEST_TYPE, CredentialsState, is_size_name
from avion_media.common.resources import Deletions, ResourceSlot
from avion_media.common.telemetry import instruments
from avion_media.items.moderation import ModerationStatus
from avion_media.items.private.access import MAX_CACHED_S, PrivateMedia, Refusal
from avion_media.items.private.tokens import is_token
from avion_media.servers.origin.body import RangeBody
from avion_media.servers.settings import HttpConfig
from mediathumbs import WEBP_SUFFIX
from trio_http1 import (
    CONDITIONS,
    Request,
    Response,
    ServerTiming,
    WindowMemory,
    asked_range,
    entity_tag,
    failed_precondition,
    range_applies,
)
from trio_telemetry import OTHER, Telemetry, get_logger

METHODS = ("GET", "HEAD")
IMMUTABLE = "public, max-age=31536000, immutable"
UNCERTAIN = "public, max-age=60"  # while it is unknown whether the media item was deleted
NEGATIVE = "public, max-age=10"
BRIEF = "public, max-age=60"  # of what follows from the configuration
GONE = "public, max-age=60"  # not forever: a deletion can be undone within its delay, and a block can be lifted
MOVED = "public, max-age=86400"
NO_STORE = "no-store"
SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
PRIVATE_HEADERS = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}
_UNKNOWN_TYPE = "application/octet-stream"

MEDIA = "/media/{id}"
CREDENTIALS = "/media/{id}/credentials"
THUMBNAIL = "/thumbnail/{size}/{id}"
PRIVATE_MEDIA = "/media/{id}/{token}"
PRIVATE_CREDENTIALS = "/media/{id}/{token}/credentials"
PRIVATE_THUMBNAIL = "/thumbnail/{size}/{id}/{token}"
_PRIVATE = (PRIVATE_MEDIA, PRIVATE_CREDENTIALS, PRIVATE_THUMBNAIL)
_ALL_CREDENTIALS = (CREDENTIALS, PRIVATE_CREDENTIALS)
CAPABILITIES = "/capabilities"
_CLIENT_GONE = 499  # as nginx calls it: the client left before there was a response
_STORE_S = 8.0  # until the headers of a response: less than a CDN waits
_NO_BYTES = (None, 0)  # "the last 0 bytes" cannot be asked of a store
_BLOCKED = "this media item was blocked"
_REFUSED = {Refusal.FORGED: 404, Refusal.REVOKED: 403, Refusal.DELETED: 410, Refusal.EXPIRED: 403}
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Target:
    """The object of one request. ``content_type`` is None if the object's own facts have it. ``token`` is that of the
    path of a private media item; its object is served for ``left_s`` seconds at most."""

    route: str
    any_id: AnyId
    key: str
    content_type: str | None = None
    disposition: str = "inline"
    token: str = ""
    left_s: int = 0

    def served_as(self, info: ObjectInfo) -> tuple[str, str]:
        """Return content type and disposition: as detected, never as declared."""
        if self.content_type is not None:
            return self.content_type, self.disposition
        facts = stored_facts(info)
        return (facts.format.content_type, "inline") if facts else (_UNKNOWN_TYPE, "attachment")


def route_of(path: str) -> tuple[str, str]:
    """Return the route of a path, compared exactly, and its part that may be a media id."""
    match path.split("/"):
        case ["", "media", media_id]:
            return MEDIA, media_id
        case ["", "media", media_id, "credentials"]:
            return CREDENTIALS, media_id
        case ["", "thumbnail", _size, media_id]:
            return THUMBNAIL, media_id
        case ["", "media", media_id, _token]:
            return PRIVATE_MEDIA, media_id
        case ["", "media", media_id, _token, "credentials"]:
            return PRIVATE_CREDENTIALS, media_id
        case ["", "thumbnail", _size, media_id, _token]:
            return PRIVATE_THUMBNAIL, media_id
        case ["", "capabilities"]:
            return CAPABILITIES, ""
    return OTHER, ""


def target_of(path: str) -> Target | None:
    """Return the object of a path; None if there cannot be one.

    The path is not decoded. A media item has only one spelling; otherwise a cache would store copies that no purge
    reaches.
    """
    route, name = route_of(path)
    any_id = id_or_none(name.removesuffix(WEBP_SUFFIX) if route == THUMBNAIL else name)
    if any_id is None or any_id.is_private is not (route in _PRIVATE):
        return None
    parts = path.split("/")
    token = ""
    if any_id.is_private:
        token = parts[4].removesuffix(WEBP_SUFFIX) if route == PRIVATE_THUMBNAIL else parts[3]
    if route in (MEDIA, PRIVATE_MEDIA):
        return Target(route, any_id, keys.original(any_id), token=token)
    if route in _ALL_CREDENTIALS:
        return Target(route, any_id, keys.credentials(any_id), MANIFEST_TYPE, "attachment", token)
    size = parts[2]
    if not is_size_name(size):
        return None
    # The size might not be configured any more, because URLs outlive the configuration.
    suffix, made_as = (WEBP_SUFFIX, WEBP) if path.endswith(WEBP_SUFFIX) else ("", JPEG)
    return Target(route, any_id, keys.thumbnail(any_id, size + suffix), made_as.content_type, token=token)


def validators(info: ObjectInfo, cache_control: str) -> dict[str, str]:
    """Return the validators, also for responses without a body. All replicas have the same etag, the store's."""
    return {
        "ETag": entity_tag(info.etag),
        "Last-Modified": format_datetime(info.last_modified.astimezone(UTC), usegmt=True),
        "Cache-Control": cache_control,
        "Accept-Ranges": "bytes",
    }


def plain(
    status: int, text: str, *, cache_control: str = NEGATIVE, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a short text response."""
    own = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": cache_control}
    return Response(status, {**own, **(headers or {})}, f"{text}\n".encode())


def capabilities(fields: Mapping[str, Any]) -> Response:
    """Return what may be uploaded, as JSON that pages of any site can read."""
    headers = {"Content-Type": "application/json", "Cache-Control": BRIEF, **ANY_ORIGIN}
    return Response(200, headers, json.dumps(fields).encode())


def moved(path: str) -> Response:
    """Return 308 to the path without its query, which selects nothing and would make a second copy in a cache."""
    return plain(308, "without a query", cache_control=MOVED, headers={"Location": path})


def try_again(retry_after_s: float = 1.0) -> Response:
    """Return 503, for a temporary problem."""
    headers = {"Retry-After": str(max(1, round(retry_after_s)))}
    return plain(503, "temporarily unavailable; retry later", cache_control="no-store", headers=headers)


def accel_uri(url: str, kept: str) -> str:
    """Return the internal path for a URL of the store: in the location of ``ops/cdn/accel.conf``.

    ``kept`` (``immutable``, ``brief`` or ``private``) decides how long the response may be cached. ``Cache-Control``
    cannot be used, because nginx would apply it to an error of the store as well.
    """
    parts = urlsplit(url)
    return f"/_store/{kept}{parts.path}?{parts.query}"


def _not_found(path: str, text: str = "media item not found") -> Response:
    """Return 404. No cache keeps it for a path with the id of a private media item, or with a token."""
    parts = [each.removesuffix(WEBP_SUFFIX) for each in path.split("/")]
    is_kept = not any(is_private(each) or is_token(each) for each in parts)
    return plain(404, text, cache_control=NEGATIVE if is_kept else NO_STORE)


def _was_deleted() -> Response:
    return plain(410, "this media item was deleted", cache_control=GONE)


def _unavailable(error: Unavailable, target: Target) -> Response:
    _log.warning("origin.unavailable", dependency=error.dependency, media_id=str(target.any_id))
    return try_again(error.retry_after_s)


def unsatisfiable(size_bytes: int) -> Response:
    """Return 416: the range begins after the end (RFC 9110, 15.5.17)."""
    headers = {"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"}
    return plain(416, "the range lies beyond the end", cache_control="no-store", headers=headers)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and last byte asked for; None to serve everything (no range, several, or one that is malformed).

    Raises RangeNotSatisfiable for a range beyond the end.
    """
    asked = asked_range(header)
    if asked is None:
        return None
    first, last = within(asked, size)
    if first >= size:
        raise RangeNotSatisfiable
    return first, last


async def observed(
    telemetry: Telemetry, request: Request, respond: Callable[[Request, str, ServerTiming], Awaitable[Response]]
) -> Response:
    """Return the response of ``respond``, which gets the request's route. Report it by a span and a metric.

    The origin is public, so a visitor's ``traceparent`` is ignored: otherwise visitors would decide which traces are
    recorded. Each request has its own trace, linked to that of the media item.
    """
    route, media_id = route_of(request.path)
    method = request.method if request.method in METHODS else OTHER
    known: dict[str, Any] = {"http__request__method": method, "url__scheme": "http", "http__route": route}
    started = time.monotonic()
    status, timing = 500, ServerTiming()
    shown = "HTTP" if method is OTHER else method  # by the conventions
    name = shown if route is OTHER else f"{shown} {route}"
    with telemetry.span(name, kind="server", link=media_id, **known) as span:
        try:
            response = await respond(request, route, timing)
            status = response.status
            is_secret = status == 404 and len(media_id) == 64  # not even the time of each step: see `_without_object`
            if (header := timing.header()) and not is_secret:
                response.headers["Server-Timing"] = header
            return response
        except trio.Cancelled:
            status = _CLIENT_GONE
            raise
        finally:
            span.set(http__response__status_code=status)
            if status >= 500:
                span.fail(str(status))
            known |= {"http__response__status_code": status, "error__type": str(status) if status >= 500 else ""}
            telemetry.record(instruments.HTTP_DURATION, time.monotonic() - started, **known)


@dataclass(eq=False)
class Origin:
    """The origin's handler is `handle`."""

    store: ResourceSlot[ObjectStore]
    deletions: Deletions
    moderation: ModerationStatus
    telemetry: Telemetry
    config: HttpConfig
    capabilities: Callable[[], Mapping[str, Any]]
    private: PrivateMedia
    links_credentials: bool = False
    cdn_max_age_s: float = 0.0
    memory: WindowMemory = field(default_factory=WindowMemory, init=False)

    async def handle(self, request: Request) -> Response:
        """The response to any request: every one carries the safety headers."""
        response = await observed(self.telemetry, request, self._respond)
        response.headers.update(SAFETY_HEADERS)
        route, _ = route_of(request.path)
        if route in _ALL_CREDENTIALS:  # validators are pages of any site
            response.headers.update(ANY_ORIGIN)
        if route in _PRIVATE:
            response.headers.update(PRIVATE_HEADERS)
        return response

    async def _respond(self, request: Request, route: str, timing: ServerTiming) -> Response:
        if route is OTHER:
            return _not_found(request.path, "no such path")
        if request.method not in METHODS:
            return plain(405, "GET and HEAD only", cache_control="no-store", headers={"Allow": "GET, HEAD"})
        target = target_of(request.path)
        if target is None and route is not CAPABILITIES:
            return _not_found(request.path)
        if target is not None and target.any_id.is_private:
            return await self._private(request, target, timing)
        if request.query is not None:
            return moved(request.path)
        if target is None:
            return capabilities(self.capabilities())
        try:
            with timing.measured("tombstone"):
                deleted = await self._deleted(str(target.any_id))
        except Unavailable as error:
            return _unavailable(error, target)
        if deleted and not isinstance(target.any_id, RemoteId):
            return _was_deleted()
        cache_control = UNCERTAIN if deleted is None else IMMUTABLE
        return await self._unless_blocked(request, target, cache_control, timing, deleted=bool(deleted))

    async def _private(self, request: Request, target: Target, timing: ServerTiming) -> Response:
        """Check the token, and everything else that a private media item depends on."""
        assert isinstance(target.any_id, MediaId)
        if request.query is not None:
            return _not_found(request.path)
        try:
            with timing.measured("tombstone"):
                checked = await self.private.check(target.any_id, target.token)
        except Unavailable as error:
            return _unavailable(error, target)
        if isinstance(checked, Refusal):
            return plain(_REFUSED[checked], checked.value, cache_control=NO_STORE)
        target = replace(target, left_s=min(checked, MAX_CACHED_S))
        response = await self._unless_blocked(request, target, self._while_private(target.left_s), timing)
        if response.status >= 400:
            response.headers["Cache-Control"] = NO_STORE
        else:
            response.headers.update(self._for_cdn(target.left_s // 2 if response.status == 307 else target.left_s))
        return response

    def _while_private(self, left_s: int) -> str:
        """Return how long browsers may keep a private file, which nobody may read after ``left_s``."""
        return f"private, max-age={left_s}"

    def _for_cdn(self, left_s: int) -> dict[str, str]:
        """Return what lets the operator's own CDN keep a private file (RFC 9213), and no cache of others."""
        if not self.cdn_max_age_s:
            return {}
        return {"CDN-Cache-Control": f"max-age={min(left_s, int(self.cdn_max_age_s))}"}

    async def _unless_blocked(
        self,
        request: Request,
        target: Target,
        cache_control: str,
        timing: ServerTiming,
        *,
        deleted: bool = False,
    ) -> Response:
        media_id = str(target.any_id)
        try:
            with timing.measured("store"), trio.move_on_after(_STORE_S):
                try:
                    response = await self._from_store(request, target, cache_control)
                except ObjectMissing:
                    return await self._without_object(request.path, target.any_id, deleted=deleted)
                if not deleted and not await self.moderation.is_blocked_despite_objects(media_id):
                    return response
                if not isinstance(response.body, bytes):
                    response.body.close()
                return _was_deleted() if deleted else plain(451, _BLOCKED, cache_control=GONE)
            _log.warning("origin.unavailable", dependency="store", media_id=media_id, waited_s=_STORE_S)
            return try_again()
        except PreconditionFailed:  # the object was replaced between two requests: the client can repeat its own
            return try_again()
        except Unavailable as error:
            return _unavailable(error, target)

    async def _without_object(self, path: str, any_id: AnyId, *, deleted: bool) -> Response:
        """Return the response about a media item without objects: a block or a deletion removes them.

        Anyone can ask about the id of an upload, because only those who were given it know it. Remote files are known
        to their own servers. So of a file that was never public here each request reads the same, finds the same, and
        gets the same answer: whether it was never requested, failed, is refused by a list, or was deleted.
        """
        if isinstance(any_id, RemoteId):
            note = keys.was_public(any_id, deleted=deleted)
            if not await self.store.get().exists(note):
                return _not_found(path)
        if deleted:
            return _was_deleted()
        if await self.moderation.is_blocked(str(any_id)):
            return plain(451, _BLOCKED, cache_control=GONE)
        return _not_found(path)

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

    async def _from_store(self, request: Request, target: Target, cache_control: str) -> Response:
        # A URL that is signed for GET serves no HEAD. Credentials are small, and the store does not open them to
        # other origins.
        if self.config.mode != "proxy" and request.method != "HEAD" and target.route not in _ALL_CREDENTIALS:
            return await self._handed_over(target, cache_control)
        byte_range = asked_range(request.headers.get("range"))
        needs_facts = any(name in request.headers for name in CONDITIONS) or byte_range == _NO_BYTES
        try:
            if request.method == "HEAD" or needs_facts:
                return await self._conditional(request, target, cache_control)
            return await self._object(request, target, byte_range, cache_control)
        except RangeNotSatisfiable:
            info = await self.store.get().head(target.key)
            return unsatisfiable(info.size_bytes)

    async def _handed_over(self, target: Target, cache_control: str) -> Response:
        """The store's URL, for the client (307) or for nginx (``X-Accel-Redirect``).

        Caches may keep a redirect for half of the URL's life: a client that follows it then has the other half.
        """
        store, ttl_s = self.store.get(), int(self.config.redirect_ttl)
        content_type, disposition = target.served_as(await store.head(target.key))
        shown = {"content_type": content_type, "content_disposition": disposition}
        if target.token:
            ttl_s = min(ttl_s, target.left_s)
            shown["cache_control"] = cache_control  # without it, browsers keep a file for a part of its age
        url = store.downloads.get(target.key, expires_s=ttl_s, now=datetime.now(UTC), **shown)
        if self.config.mode == "accel":
            kept = "private" if target.token else "brief" if cache_control is UNCERTAIN else "immutable"
            internal = accel_uri(url, kept)
            headers = {"Content-Type": content_type, "Content-Disposition": disposition, "X-Accel-Redirect": internal}
            return Response(200, headers)
        if target.token:
            cache_control = self._while_private(ttl_s // 2)
        elif cache_control is IMMUTABLE:
            cache_control = f"public, max-age={ttl_s // 2}"
        return Response(307, {"Location": url, "Cache-Control": cache_control})

    def _headers(self, info: ObjectInfo, target: Target, cache_control: str) -> dict[str, str]:
        """Return the headers of a response with the object, or a part of it."""
        content_type, disposition = target.served_as(info)
        headers = {"Content-Type": content_type, "Content-Disposition": disposition, **validators(info, cache_control)}
        facts = stored_facts(info) if self.links_credentials and target.route in (MEDIA, PRIVATE_MEDIA) else None
        if facts is not None and facts.credentials is CredentialsState.BESIDE_FILE:
            path = keys.credentials_path(target.any_id).replace(keys.TOKEN, target.token)
            headers["Link"] = f'<{path}>; rel="c2pa-manifest"'
        return headers

    async def _conditional(self, request: Request, target: Target, cache_control: str) -> Response:
        """Decided by the facts alone; the body is read only when it is sent. Raises as `_object` does."""
        headers = request.headers
        info = await self.store.get().head(target.key)
        etag = entity_tag(info.etag)
        match failed_precondition(headers, etag, info.last_modified):
            case 412:
                return plain(412, "the object is another version", cache_control="no-store")
            case 304:
                return Response(304, validators(info, cache_control))
        if request.method == "HEAD":  # Range is defined for GET alone (RFC 9110, 14.2)
            length = {"Content-Length": str(info.size_bytes)}
            return Response(200, self._headers(info, target, cache_control) | length)
        applies = range_applies(headers.get("if-range"), etag, info.last_modified)
        byte_range = parse_range(headers.get("range"), info.size_bytes) if applies else None
        return await self._object(request, target, byte_range, cache_control, etag=info.etag)

    async def _object(
        self,
        request: Request,
        target: Target,
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
        headers = self._headers(body.info, target, cache_control)
        if body.content_range is None:
            return Response(200, headers, body)
        return Response(206, headers | {"Content-Range": str(body.content_range)}, body)
