"""The origin's responses, with the headers of each case (docs/contract.md, section 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

from avion_media.backends.store import ObjectInfo, stored_facts
from avion_media.common import keys
from avion_media.common.formats import JPEG, WEBP
from avion_media.common.ids import AnyId, InvalidId, parse_any_id
from avion_media.common.media import WEBP_SUFFIX, is_size_name
from avion_media.servers.http1 import Response

METHODS = ("GET", "HEAD")
IMMUTABLE = "public, max-age=31536000, immutable"
UNCERTAIN = "public, max-age=60"  # while it is unknown whether the media item was deleted
NEGATIVE = "public, max-age=10"
BRIEF = "public, max-age=60"  # of what follows from the configuration
GONE = "public, max-age=60"  # not forever: a deletion can be undone within its delay, and a block can be lifted
MOVED = "public, max-age=86400"
SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_UNKNOWN_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Target:
    """The object of one request. ``content_type`` is None if the object's own facts have it."""

    route: str
    any_id: AnyId
    key: str
    content_type: str | None = None

    def served_as(self, info: ObjectInfo) -> tuple[str, str]:
        """Return content type and disposition: as detected, never as declared."""
        if self.content_type is not None:
            return self.content_type, "inline"
        facts = stored_facts(info)
        return (facts.format.content_type, "inline") if facts else (_UNKNOWN_TYPE, "attachment")


MEDIA = "/media/{id}"
THUMBNAIL = "/thumbnail/{size}/{id}"
CAPABILITIES = "/capabilities"
NO_ROUTE = "_OTHER"


def route_of(path: str) -> tuple[str, str]:
    """Return the route of a path, compared exactly, and its last part, which may be a media id."""
    match path.split("/"):
        case ["", "media", media_id]:
            return MEDIA, media_id
        case ["", "thumbnail", _size, media_id]:
            return THUMBNAIL, media_id
        case ["", "capabilities"]:
            return CAPABILITIES, ""
    return NO_ROUTE, ""


def target_of(path: str) -> Target | None:
    """Return the object of a path; None if there cannot be one.

    The path is not decoded. A media item has only one spelling; otherwise a cache would store copies that no purge
    reaches.
    """
    route, name = route_of(path)
    media_id = name.removesuffix(WEBP_SUFFIX) if route == THUMBNAIL else name
    try:
        any_id = parse_any_id(media_id)
    except InvalidId:
        return None
    if route == MEDIA:
        return Target(route, any_id, keys.original(any_id))
    size = path.split("/")[2]
    if not is_size_name(size):
        return None
    # The size might not be configured any more, because URLs outlive the configuration.
    suffix, made_as = ("", JPEG) if name == media_id else (WEBP_SUFFIX, WEBP)
    return Target(route, any_id, keys.thumbnail(any_id, size + suffix), made_as.content_type)


def object_headers(info: ObjectInfo, target: Target, cache_control: str) -> dict[str, str]:
    """Return the headers of a response with the object, or a part of it."""
    content_type, disposition = target.served_as(info)
    return {"Content-Type": content_type, "Content-Disposition": disposition, **validators(info, cache_control)}


def validators(info: ObjectInfo, cache_control: str) -> dict[str, str]:
    """Return the validators, also for responses without a body. All replicas have the same etag, the store's."""
    return {
        "ETag": quoted(info.etag),
        "Last-Modified": format_datetime(info.last_modified.astimezone(UTC), usegmt=True),
        "Cache-Control": cache_control,
        "Accept-Ranges": "bytes",
    }


def quoted(etag: str) -> str:
    """Return an etag as a strong entity tag (RFC 9110, 8.8.3)."""
    return '"' + etag.removeprefix("W/").strip('"') + '"'


def plain(
    status: int, text: str, *, cache_control: str = NEGATIVE, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a short text response."""
    own = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": cache_control}
    return Response(status, {**own, **(headers or {})}, f"{text}\n".encode())


def capabilities(fields: Mapping[str, Any]) -> Response:
    """Return what may be uploaded, as JSON that pages of any site can read."""
    headers = {"Content-Type": "application/json", "Cache-Control": BRIEF, "Access-Control-Allow-Origin": "*"}
    return Response(200, headers, json.dumps(fields).encode())


def moved(path: str) -> Response:
    """Return 308 to the path without its query, which selects nothing and would make a second copy in a cache."""
    return plain(308, "without a query", cache_control=MOVED, headers={"Location": path})


def try_again(retry_after_s: float = 1.0) -> Response:
    """Return 503, for a temporary problem."""
    headers = {"Retry-After": str(max(1, round(retry_after_s)))}
    return plain(503, "temporarily unavailable; retry later", cache_control="no-store", headers=headers)


def accel_uri(url: str, *, brief: bool) -> str:
    """Return the internal path for a URL of the store: in the location of ``ops/cdn/accel.conf``.

    The path also decides how long the response may be cached. ``Cache-Control`` cannot be used, because nginx would
    apply it to an error of the store as well.
    """
    parts = urlsplit(url)
    return f"/_store/{'brief' if brief else 'immutable'}{parts.path}?{parts.query}"


def unsatisfiable(size_bytes: int) -> Response:
    """Return 416: the range begins after the end (RFC 9110, 15.5.17)."""
    headers = {"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"}
    return plain(416, "the range lies beyond the end", cache_control="no-store", headers=headers)
