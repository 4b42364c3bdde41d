"""Small bodies of requests: urlencoded forms, whose fields can have several values, and JSON."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request

_MAX_BODY_BYTES: Final = 16 << 10


async def read_body(request: Request) -> bytes:
    """Return the body of a request; empty if it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            return b""
    return body


async def read_form(request: Request) -> QueryParams:
    """Return the fields in the body of a request: none if it is not a form, or is too large."""
    return QueryParams((await read_body(request)).decode(errors="replace"))
