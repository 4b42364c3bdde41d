"""The admin port: ``/livez``, ``/readyz``, ``/metrics``, ``/tree``, and its pages. It must not be public.

The first three are open for kubelets and Prometheus, which have no token. Everything else is for operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from avion_media.common.telemetry import Telemetry
from avion_media.servers.admin.operators import OperatorGate


def admin_application(
    *,
    readiness: Callable[[], dict[str, Any]],
    tree: Callable[[], dict[str, Any]],
    telemetry: Telemetry,
    gate: OperatorGate,
    pages: Sequence[BaseRoute],
) -> Starlette:
    """Make the application. ``readiness`` returns at least ``ready`` (bool), ``tree`` the live supervision tree.
    Neither waits.

    Requests that show or change internals must pass ``gate``. ``pages`` have gates of their own.
    """

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        report = readiness()
        return JSONResponse(report, status_code=200 if report["ready"] else 503)

    async def metrics(_request: Request) -> Response:
        telemetry.refresh()
        # In a thread, because hundreds of series take milliseconds, for which all other tasks would wait.
        page = await trio.to_thread.run_sync(telemetry.render_metrics)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def show_tree(_request: Request) -> Response:
        return JSONResponse(tree())

    routes: list[BaseRoute] = [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/tree", gate.required(show_tree)),
    ]
    return Starlette(routes=[*routes, *pages])
