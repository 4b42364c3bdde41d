"""A span, a measurement and a ``Server-Timing`` around each request of the origin, until its response is known.

The origin is public: a ``traceparent`` that a visitor sends is not believed, or strangers would decide which traces are
recorded. Each request is a trace of its own, linked to the media item's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from avion_media.http1 import Request, Response
from avion_media.origin.responses import NO_ROUTE, route_of
from avion_media.telemetry import Telemetry, instruments

_METHODS = frozenset({"GET", "HEAD"})
_CLIENT_GONE = 499  # as nginx calls it: the client left before there was a response


class Timing:
    """How long the parts of one response took (https://www.w3.org/TR/server-timing/)."""

    def __init__(self) -> None:
        self._durations: dict[str, float] = {}

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the time that the block takes, however it ends; ``name`` is from the code."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._durations[name] = self._durations.get(name, 0.0) + time.perf_counter() - started

    def header(self) -> str:
        """The header's value, in milliseconds; empty when nothing was measured."""
        return ", ".join(f"{name};dur={duration_s * 1000:.1f}" for name, duration_s in self._durations.items())


async def observed(
    telemetry: Telemetry, request: Request, respond: Callable[[Request, Timing], Awaitable[Response]]
) -> Response:
    """The response of ``respond``, seen by telemetry."""
    route, media_id = route_of(request.path)
    method = request.method if request.method in _METHODS else NO_ROUTE
    known = {"http__request__method": method, "url__scheme": "http", "http__route": route}
    started = time.monotonic()
    status, timing = 500, Timing()
    name = method if route is NO_ROUTE else f"{method} {route}"
    with telemetry.span(name, kind="server", link=media_id, **known) as span:
        try:
            response = await respond(request, timing)
            status = response.status
            if header := timing.header():
                response.headers["Server-Timing"] = header
            return response
        except trio.Cancelled:
            status = _CLIENT_GONE
            raise
        finally:
            span.set(http__response__status_code=status)
            error = str(status) if status >= 500 else ""
            if error:
                span.fail(error)
            telemetry.record(
                instruments.HTTP_DURATION,
                time.monotonic() - started,
                **known,
                http__response__status_code=status,
                error__type=error,
            )
