"""Small urlencoded forms, whose fields can have several values."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request

_MAX_FORM_BYTES: Final = 16 << 10


async def read_form(request: Request) -> QueryParams:
    """Return the fields in the body of a request: none if it is not a form, or is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            return QueryParams()
    return QueryParams(body.decode(errors="replace"))
