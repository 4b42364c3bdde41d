"""The admin port: ``/livez``, ``/readyz``, ``/metrics``, ``/tree``, and its pages. It must not be public.

The first three are open for kubelets and Prometheus, which have no token. Everything else is for operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from avion_media.common.telemetry import Telemetry
from avion_media.operations.operation import NoSuchTarget, Order
from avion_media.operations.table import Operations
from avion_media.servers.admin.operators import OperatorGate

_OPENMETRICS = "application/openmetrics-text"  # Prometheus asks for it; https://openmetrics.io


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

    async def metrics(request: Request) -> Response:
        telemetry.refresh()
        openmetrics = _OPENMETRICS in request.headers.get("accept", "")
        # In a thread, because hundreds of series take milliseconds, for which all other tasks would wait.
        page = await trio.to_thread.run_sync(partial(telemetry.render_metrics, openmetrics=openmetrics))
        version = f"{_OPENMETRICS}; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"
        return Response(page, media_type=f"{version}; charset=utf-8", headers={"Vary": "Accept"})

    async def show_tree(_request: Request) -> Response:
        return JSONResponse(tree())

    routes: list[BaseRoute] = [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/tree", gate.required(show_tree)),
    ]
    return Starlette(routes=[*routes, *pages])


def kill_routes(operations: Operations, gate: OperatorGate) -> list[BaseRoute]:
    """Return ``POST /chaos/kill?path=…``, which crashes a node of the tree; nothing unless the settings allow it.

    A request that kills the admin port itself gets no response.
    """

    async def kill(request: Request) -> Response:
        path = request.query_params.get("path", "")
        outcome = await operations.carry_out("kill", Order([path], who=gate.describe(request)))
        for problem in outcome.problems.values():
            status = 404 if isinstance(problem, NoSuchTarget) else 409
            return JSONResponse({"error": f"{path[:80]}: {problem}"}, status)
        return JSONResponse(dict(outcome.done[path]))

    return [Route("/chaos/kill", gate.required(kill), methods=["POST"])] if "kill" in operations.allowed else []
