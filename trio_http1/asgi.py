"""Serves an ASGI application: the admin port, whose console needs forms, cookies and many routes.

Only HTTP: no lifespan, no WebSockets, and each response field once. The application has a task of its own, because it
sends where a handler returns. Each piece that it sends waits until the client's socket has accepted the one before.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

import trio

from trio_http1.messages import BodyLost, HttpLimits, Request, Response
from trio_http1.server import HttpServer

PROXIED = "trio_http1.proxied"
"""Name in the scope of a request: whether the connection comes from a trusted proxy."""
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

_log = logging.getLogger("trio_http1")


class AsgiServer(HttpServer):
    """Serves one ASGI application. A cancel of `serve` cuts its connections."""

    def __init__(self, app: AsgiApp, limits: HttpLimits) -> None:
        super().__init__(self._handle, limits)
        self._app = app
        self._calls: trio.Nursery

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept connections until cancelled; closes the listeners."""
        async with trio.open_nursery() as self._calls:
            await super().serve(listeners)

    async def _handle(self, request: Request) -> Response:
        call = _Call(self._app, request, "http" if self.ssl_context is None else "https")
        self._calls.start_soon(call.run)
        try:
            return await call.response()
        except BaseException:
            call.close()
            raise


class _Call:
    """One request of the application, and the body of its response."""

    def __init__(self, app: AsgiApp, request: Request, scheme: str) -> None:
        self._scheme = scheme
        self.length_bytes: int | None = None
        self._app = app
        self._request = request
        self._scope = trio.CancelScope()
        self._sending, self._pieces = trio.open_memory_channel[bytes](0)
        self._begun = trio.Event()
        self._response: Response | None = None
        self._error: Exception | None = None  # before there was a response
        self._was_read = False
        self._is_whole = False

    async def run(self) -> None:
        """Run the application. Until the response has begun, its exception counts as that of the handler."""
        try:
            with self._scope, self._sending:
                await self._app(self._asgi_scope(), self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - an application may raise anything
            self._error = self._error or error
            if self._response is not None:
                _log.error("http.handler_failed", exc_info=True)
        self._begun.set()

    async def response(self) -> Response:
        """Return the response as soon as it begins. Raises what the application or the request's body raised."""
        await self._begun.wait()
        if self._response is None:
            raise self._error or RuntimeError("the application ended without a response")
        return self._response

    async def windows(self) -> AsyncGenerator[bytes, None]:
        """See `Body`."""
        async for piece in self._pieces:
            yield piece
        if not self._is_whole:
            raise BodyLost(f"{self._request.path}: the application ended within its response")

    def close(self) -> None:
        """Cancel the application, because its client has the response, or has left."""
        self._scope.cancel()
        self._pieces.close()

    def _asgi_scope(self) -> dict[str, Any]:
        request = self._request
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self._scheme,
            "method": request.method,
            "path": unquote(request.path),
            "raw_path": request.path.encode("ascii"),
            "query_string": (request.query or "").encode("ascii"),
            "root_path": "",
            "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers.items()],
            "client": (request.peer, 0),
            PROXIED: request.is_proxied,
        }

    async def _receive(self) -> dict[str, Any]:
        """Return the whole body. No disconnect follows: if the client leaves, the application is cancelled."""
        if self._was_read:
            await trio.sleep_forever()
        self._was_read = True
        try:
            return {"type": "http.request", "body": await self._request.read_body(), "more_body": False}
        except Exception as error:  # only concerns the server and its client
            self._error = error
            self._scope.cancel()
            await trio.lowlevel.checkpoint()  # ends here, so that it does not become the server's response
            raise

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = {name.decode("ascii"): value.decode("latin-1") for name, value in message["headers"]}
            if len(headers) < len(message["headers"]):
                raise ValueError("a field of the response is repeated")
            length = headers.pop("content-length", None)
            self.length_bytes = None if length is None else int(length)
            self._response = Response(message["status"], headers, self)
            self._begun.set()
            return
        self._is_whole = not message.get("more_body", False)
        if body := message.get("body"):
            await self._sending.send(body)
        if self._is_whole:
            self._sending.close()
