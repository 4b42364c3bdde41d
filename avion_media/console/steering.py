"""What operators do to queues over the admin port. Each action is logged with the operator's name."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from avion_media.admin.operators import OperatorGate
from avion_media.domain.errors import Unavailable
from avion_media.queue import NEVER_GIVEN_UP, TaskQueue
from avion_media.telemetry import get_logger

Act = Callable[[TaskQueue, Request, str], Awaitable[Response]]
_MAX_TASK_ID = 256  # characters


def steering_routes(queues: Mapping[str, TaskQueue], gate: OperatorGate) -> list[BaseRoute]:
    """``POST /queues/{queue}/pause``, ``/resume``, ``/cancel?task_id=…`` and ``/replay?rate=…&error=…``."""
    log = get_logger(path="admin")

    def endpoint(action: str, act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def acted(request: Request) -> Response:
            queue = queues.get(request.path_params["queue"])
            if queue is None:
                return JSONResponse({"error": "no such queue"}, 404)
            by = gate.describe(request)
            try:
                response = await act(queue, request, by)
            except Unavailable as error:
                return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})
            if response.status_code == 200:
                log.info(f"operator.{action}", by=by, queue=queue.name, **dict(request.query_params))
            return response

        return gate.required(acted)

    actions: dict[str, tuple[str, Act]] = {
        "pause": ("queue_paused", _pause),
        "resume": ("queue_resumed", _resume),
        "cancel": ("task_cancelled", _cancel),
        "replay": ("bulk_replay_begun", _replay),
    }
    return [Route(f"/queues/{{queue}}/{word}", endpoint(*action), methods=["POST"]) for word, action in actions.items()]


async def _pause(queue: TaskQueue, _request: Request, _by: str) -> Response:
    await queue.pause()
    return JSONResponse({"queue": queue.name, "paused": True})


async def _resume(queue: TaskQueue, _request: Request, _by: str) -> Response:
    return JSONResponse({"queue": queue.name, "paused": False, "was_paused": await queue.resume()})


async def _cancel(queue: TaskQueue, request: Request, by: str) -> Response:
    task_id = request.query_params.get("task_id", "")
    if not 0 < len(task_id) <= _MAX_TASK_ID:
        return JSONResponse({"error": "task_id is required"}, 400)
    if queue.name in NEVER_GIVEN_UP:
        return JSONResponse({"error": "tasks of this queue must be done, and cannot be cancelled"}, 409)
    await queue.cancel(task_id, by)
    return JSONResponse({"queue": queue.name, "task_id": task_id})


async def _replay(queue: TaskQueue, request: Request, by: str) -> Response:
    try:
        rate = float(request.query_params.get("rate", ""))
    except ValueError:
        rate = 0.0
    if not (rate > 0 and math.isfinite(rate)):
        return JSONResponse({"error": "rate is required: dead letters per second"}, 400)
    found = await queue.replay_all(error=request.query_params.get("error", ""), rate=rate, by=by)
    if found is None:
        return JSONResponse({"error": "an earlier bulk replay is not done yet"}, 409)
    return JSONResponse({"queue": queue.name, "dead_letters": found, "rate": rate})
