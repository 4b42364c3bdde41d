"""Responses to requests that this service sends to services of the operator."""

from __future__ import annotations

import httpx


async def read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the body of a response that is being streamed, undecoded. Raises `ValueError` if it has more bytes.

    The caller closes the response, also after a cancel.
    """
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise ValueError(f"the response has more than {max_bytes} bytes")
    return body
