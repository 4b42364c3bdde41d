"""The admin port: ``/livez``, ``/readyz``, ``/metrics``, ``/tree``, and its pages. It must not be public.

The first three are open for kubelets and Prometheus, which have no token. Everything else is for operators. Some routes
carry out their actions, such as ``POST /queues/{queue}/pause``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from avion_media.backends.queue import DEFAULT_RATE, DeadLetterFilter, all_jobs
from avion_media.common.errors import Unavailable
from avion_media.common.settings import seconds_of
from avion_media.items.moderation import MAX_NOTE
from avion_media.operations.operation import (
    OWNER,
    InvalidTarget,
    NoSuchTarget,
    NotAllowed,
    Operation,
    Order,
    Outcome,
    Refused,
)
from avion_media.operations.queues import bulk_target
from avion_media.operations.table import Operations
from avion_media.servers.admin.operators import Endpoint, OperatorGate, person_of
from trio_telemetry import Telemetry

_STATUSES = ((NoSuchTarget, 404), (InvalidTarget, 400), (Refused, 409))  # other problems: 400
_OPENMETRICS = "application/openmetrics-text"  # Prometheus asks for it; https://openmetrics.io
_MAX_TASK_ID = 256  # characters


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
        Route("/readyz", gate.open_to_all(readyz)),
        Route("/metrics", gate.open_to_all(metrics)),
        Route("/tree", gate.required(show_tree)),
    ]
    return Starlette(routes=[*routes, *pages])


def operation_routes(operations: Operations, gate: OperatorGate) -> list[BaseRoute]:
    """Return a route for each action that has one, and ``GET /jobs``.

    The response has what was done and facts about it, or the error. A request that kills the admin port itself gets no
    response.
    """

    def for_operators(endpoint: Endpoint) -> Endpoint:
        async def respond(request: Request) -> Response:
            try:
                return await endpoint(request)
            except NotAllowed as error:
                return JSONResponse({"error": str(error)}, 403)
            except Unavailable as error:
                return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})

        return gate.required(respond)

    def on_operation(row: Operation, read: Callable[[Request], list[str]]) -> Endpoint:
        async def act(request: Request) -> Response:
            who = person_of(request)
            operations.require(row.name, who)
            try:
                targets, rate = read(request), _rate_of(request) if row.is_job else DEFAULT_RATE
                note = request.query_params.get("note", "")[:MAX_NOTE] if "note" in row.takes else ""
                for_s = seconds_of(request.query_params.get("for", "0"))
            except ValueError as error:
                operations.note_refusal(row.name, who, "INVALID_ARGUMENT")
                return JSONResponse({"error": str(error)}, 400)
            order = Order(targets, who=who, rate=rate, note=note, for_s=for_s)
            outcome = await operations.carry_out(row.name, order)
            return _response(outcome)

        return for_operators(act)

    async def show_jobs(_request: Request) -> Response:
        jobs = await all_jobs(operations.runtime.items.redis)
        return JSONResponse([{"job": each.name, **asdict(each)} for each in jobs])

    return [
        *(
            Route(path, on_operation(operations.allowed[name], read), methods=["POST"])
            for name, (path, read) in ROUTES.items()
            if name in operations.allowed
        ),
        Route("/jobs", for_operators(show_jobs)),
    ]


def _response(outcome: Outcome) -> Response:
    for target, problem in outcome.problems.items():
        status = next((status for kind, status in _STATUSES if isinstance(problem, kind)), 400)
        return JSONResponse({"error": f"{target[:80]}: {problem}"}, status)
    facts: dict[str, Any] = {"done": list(outcome.done)}
    for each in outcome.done.values():
        facts |= each
    return JSONResponse(facts)


def _rate_of(request: Request) -> float:
    """Return the rate of a job. Raises `ValueError`."""
    rate = float(request.query_params.get("rate") or "nan")
    if not 0 < rate < math.inf:
        raise ValueError("rate is required: targets per second")
    return rate


def _task(request: Request) -> list[str]:
    task_id = request.query_params.get("task_id", "")
    if not 0 < len(task_id) <= _MAX_TASK_ID:
        raise ValueError("task_id is required")
    return [f"{request.path_params['queue']}/{task_id}"]


def _dead_letters(request: Request) -> list[str]:
    unknown = set(request.query_params) - {"rate", "note", *DeadLetterFilter.__dataclass_fields__}
    if unknown:  # a condition that is misspelt would replay more than was meant
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    return [bulk_target(request.path_params["queue"], DeadLetterFilter.from_fields(request.query_params))]


def _media(request: Request) -> list[str]:
    query = request.query_params
    targets = [*query.getlist("media_id"), *(OWNER + each for each in query.getlist("owner"))]
    if not targets:
        raise ValueError("media_id or owner is required")
    return targets


def _named(request: Request) -> list[str]:
    return list(request.path_params.values())


ROUTES: dict[str, tuple[str, Callable[[Request], list[str]]]] = {
    "pause": ("/queues/{queue}/pause", _named),
    "resume": ("/queues/{queue}/resume", _named),
    "cancel": ("/queues/{queue}/cancel", _task),
    "replay_all": ("/queues/{queue}/replay", _dead_letters),
    "undelete_all": ("/undelete", _media),
    "pause_job": ("/jobs/{job}/pause", _named),
    "resume_job": ("/jobs/{job}/resume", _named),
    "cancel_job": ("/jobs/{job}/cancel", _named),
    "kill": ("/chaos/kill", lambda request: [request.query_params.get("path", "")]),
}
"""The path of each action that has a route, and what reads its targets."""
