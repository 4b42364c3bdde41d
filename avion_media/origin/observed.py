"""A span and a measurement around each request of the origin.

The origin is public: a ``traceparent`` that a visitor sends is not believed, or strangers would decide which traces are
recorded. Each request is a trace of its own, linked to the medium's.
"""

from __future__ import annotations

import time
from typing import Any

import trio

from avion_media.origin.server import AsgiApp
from avion_media.telemetry import Telemetry, instruments

_OTHER = "_OTHER"
_METHODS = frozenset({"GET", "HEAD"})
_CLIENT_GONE = 499  # as nginx calls it: nobody was there to be told anything


class ObservedOrigin:
    """An ASGI application around another one."""

    def __init__(self, app: AsgiApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route, media_id = route_of(scope["path"])
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        started = time.monotonic()
        answered: tuple[int, float] | None = None  # the status, and the seconds until it was known

        async def observed_send(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"], time.monotonic() - started
            await send(message)

        name = method if route is _OTHER else f"{method} {route}"
        known = {"http__request__method": method, "url__scheme": "http", "http__route": route}
        with self._telemetry.span(name, kind="server", link=media_id, **known) as span:
            gone = False
            try:
                await self._app(scope, receive, observed_send)
            except trio.Cancelled:
                gone = True
                raise
            finally:
                status, seconds = answered or (_CLIENT_GONE if gone else 500, time.monotonic() - started)
                span.set(http__response__status_code=status)
                error = str(status) if status >= 500 else ""
                if error:
                    span.fail(error)
                self._telemetry.record(
                    instruments.HTTP_DURATION,
                    seconds,
                    **known,
                    http__response__status_code=status,
                    error__type=error,
                )


def route_of(path: str) -> tuple[str, str]:
    """The route of a path, and the last part of it, which may be a media id."""
    match path.split("/"):
        case ["", "media", media_id]:
            return "/media/{id}", media_id
        case ["", "thumbnail", _size, media_id]:
            return "/thumbnail/{size}/{id}", media_id
    return _OTHER, ""
