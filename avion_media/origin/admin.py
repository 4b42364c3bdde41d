"""The admin port: ``/livez``, ``/readyz``, ``/metrics`` and ``/tree``. Never public."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from avion_media.telemetry import Telemetry


def admin_application(
    *,
    readiness: Callable[[], dict[str, Any]],
    tree: Callable[[], dict[str, Any]],
    telemetry: Telemetry,
) -> Starlette:
    """``readiness`` gives at least ``ready`` (bool); ``tree`` the live supervision tree. Neither waits."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        report = readiness()
        return JSONResponse(report, status_code=200 if report["ready"] else 503)

    async def metrics(_request: Request) -> Response:
        return Response(telemetry.render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def show_tree(_request: Request) -> Response:
        return JSONResponse(tree())

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/tree", show_tree),
        ]
    )
