"""A span, a metric and ``Server-Timing`` for each request of the origin, until its response is known.

The origin is public, so a visitor's ``traceparent`` is ignored: otherwise visitors would decide which traces are
recorded. Each request has its own trace, linked to that of the media item.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from avion_media.common.telemetry import Telemetry, instruments
from avion_media.servers.http1 import Request, Response
from avion_media.servers.origin.responses import METHODS, NO_ROUTE, route_of

_CLIENT_GONE = 499  # as nginx calls it: the client left before there was a response


class Timing(dict[str, float]):
    """The seconds of each part of one response (https://www.w3.org/TR/server-timing/)."""

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Measure the block that follows. ``name`` is a constant of the code."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self[name] = time.perf_counter() - started

    def header(self) -> str:
        """The header's value, in milliseconds; empty without measurements."""
        return ", ".join(f"{name};dur={duration_s * 1000:.1f}" for name, duration_s in self.items())


async def observed(
    telemetry: Telemetry, request: Request, respond: Callable[[Request, str, Timing], Awaitable[Response]]
) -> Response:
    """Return the response of ``respond``, which gets the request's route, and report it."""
    route, media_id = route_of(request.path)
    method = request.method if request.method in METHODS else NO_ROUTE
    known: dict[str, Any] = {"http__request__method": method, "url__scheme": "http", "http__route": route}
    started = time.monotonic()
    status, timing = 500, Timing()
    name = method if route is NO_ROUTE else f"{method} {route}"
    with telemetry.span(name, kind="server", link=media_id, **known) as span:
        try:
            response = await respond(request, route, timing)
            status = response.status
            if header := timing.header():
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
