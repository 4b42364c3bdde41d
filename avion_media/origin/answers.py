"""The origin's answers: which headers go with which case (contract, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from avion_media.domain.ids import AnyId
from avion_media.domain.media import facts_from_metadata
from avion_media.origin.body import BodyLost
from avion_media.origin.conditional import http_date
from avion_media.store import ObjectInfo
from avion_media.telemetry import get_logger

IMMUTABLE = "public, max-age=31536000, immutable"
NEGATIVE = "public, max-age=10"
GONE = "public, max-age=60"  # shorter than for ever: a deletion can be undone within its delay
SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_UNKNOWN_TYPE = "application/octet-stream"
_log = get_logger(path="service/origin")


@dataclass(frozen=True, slots=True)
class Target:
    """What one request asks for. ``content_type`` is None when the object's own facts tell it."""

    route: str
    any_id: AnyId
    key: str
    content_type: str | None = None

    def served_as(self, info: ObjectInfo) -> tuple[str, str]:
        """Content type and disposition: as our own probe found it, never as somebody declared it."""
        if self.content_type is not None:
            return self.content_type, "inline"
        facts = facts_from_metadata(info.metadata, info.size_bytes)
        return (facts.format.content_type, "inline") if facts else (_UNKNOWN_TYPE, "attachment")


def object_headers(info: ObjectInfo, target: Target) -> dict[str, str]:
    """Of an answer that carries the object, or a part of it."""
    content_type, disposition = target.served_as(info)
    return {"Content-Type": content_type, "Content-Disposition": disposition, **validators(info)}


def validators(info: ObjectInfo) -> dict[str, str]:
    """Of an answer without a body too. The etag is the store's: the same on every replica."""
    return {
        "ETag": quoted(info.etag),
        "Last-Modified": http_date(info.last_modified),
        "Cache-Control": IMMUTABLE,
        "Accept-Ranges": "bytes",
        **SAFETY_HEADERS,
    }


def quoted(etag: str) -> str:
    """An etag as a strong entity tag (RFC 9110, 8.8.3)."""
    return '"' + etag.removeprefix("W/").strip('"') + '"'


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


def try_again(retry_after_s: float = 1.0) -> Response:
    """503: something that passes."""
    headers = {"Retry-After": str(max(1, round(retry_after_s)))}
    return plain(503, "try again soon", cache_control="no-store", headers=headers)


def unsatisfiable(size_bytes: int) -> Response:
    """416: the range lies beyond the end (RFC 9110, 15.5.17)."""
    headers = {"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"}
    return plain(416, "the range lies beyond the end", cache_control="no-store", headers=headers)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    cache_control = NEGATIVE if error.status_code == 404 else "no-store"
    return plain(error.status_code, error.detail, cache_control=cache_control, headers=error.headers)


async def on_defect(_request: Request, error: Exception) -> Response:
    """A defect of ours: the client learns nothing, the log everything. A lost body is not a defect."""
    if isinstance(error, BodyLost):
        _log.warning("origin.body_lost", error=str(error))
    else:
        _log.error("origin.defect", exc_info=error)
    return plain(500, "internal error", cache_control="no-store")
