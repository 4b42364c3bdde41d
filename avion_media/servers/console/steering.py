"""Routes of the admin port with which operators control queues. Each action is logged with the operator's name."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from avion_media.backends.queue import (
    JOB_STEPS,
    NEVER_GIVEN_UP,
    BulkJob,
    BulkJobs,
    DeadLetterFilter,
    JobStep,
    TaskQueue,
    all_jobs,
    find_jobs,
)
from avion_media.backends.redis import Redis
from avion_media.common.errors import Unavailable
from avion_media.common.ids import InvalidId, parse_any_id
from avion_media.common.media import is_owner
from avion_media.common.tasks import DELETE_QUEUE
from avion_media.common.telemetry import get_logger
from avion_media.servers.admin.operators import OperatorGate

Act = Callable[[TaskQueue, Request, str], Awaitable[Response]]
_MAX_TASK_ID = 256  # characters
_log = get_logger(path="admin")


def steering_routes(redis: Redis, queues: Mapping[str, TaskQueue], gate: OperatorGate) -> list[BaseRoute]:
    """``POST /queues/{queue}/pause``, ``/resume``, ``/cancel?task_id=…`` and ``/replay?rate=…``; ``POST /undelete``;
    ``GET /jobs`` and ``POST /jobs/{job}/pause``, ``/resume`` and ``/cancel``."""

    def for_operators(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Unavailable as error:
                return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})

        return gate.required(respond)

    def on_queue(action: str, act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def acted(request: Request) -> Response:
            queue = queues.get(request.path_params["queue"])
            if queue is None:
                return JSONResponse({"error": "no such queue"}, 404)
            by = gate.describe(request)
            response = await act(queue, request, by)
            if response.status_code == 200:
                _log.info(f"operator.{action}", by=by, queue=queue.name, **dict(request.query_params))
            return response

        return for_operators(acted)

    def on_job(step: JobStep) -> Callable[[Request], Awaitable[Response]]:
        async def acted(request: Request) -> Response:
            name = request.path_params["job"]
            found = find_jobs(redis, name)
            if found is None:
                return JSONResponse({"error": "no such job"}, 404)
            if not await step.take(*found):
                return JSONResponse({"error": f"{name} {step.refusal}"}, 409)
            _log.info(f"operator.job_{step.done}", by=gate.describe(request), job=name)
            return JSONResponse({"job": name, "state": step.done})

        return for_operators(acted)

    async def replay(queue: TaskQueue, request: Request, by: str) -> Response:
        rate = _rate_of(request)
        try:
            wanted = DeadLetterFilter.from_fields(request.query_params)
        except ValueError:
            return JSONResponse({"error": "failed_after and failed_before are Unix seconds"}, 400)
        if rate is None:
            return JSONResponse({"error": "rate is required: dead letters per second"}, 400)
        return _begun(await BulkJobs(redis, queue.name).begin_replay(wanted, rate=rate, by=by), "dead_letters")

    async def undelete(request: Request) -> Response:
        rate, by = _rate_of(request), gate.describe(request)
        media_ids, owner = request.query_params.getlist("media_id"), request.query_params.get("owner", "")
        if rate is None or not (media_ids or owner):
            return JSONResponse({"error": "rate is required, and media_id or owner"}, 400)
        if owner and not is_owner(owner):
            return JSONResponse({"error": "owner is not one"}, 400)
        try:
            ids = [str(parse_any_id(each)) for each in media_ids]
        except InvalidId as error:
            return JSONResponse({"error": str(error)}, 400)
        job = await BulkJobs(redis, DELETE_QUEUE).begin_undelete(ids, owner=owner, rate=rate, by=by)
        if job is not None:
            _log.info("operator.job_begun", by=by, job=job.name, rate=rate, media=len(ids), owner=owner)
        return _begun(job, "media")

    async def show_jobs(_request: Request) -> Response:
        return JSONResponse([{"job": each.name, **asdict(each)} for each in await all_jobs(redis)])

    actions: dict[str, tuple[str, Act]] = {
        "pause": ("queue_paused", _pause),
        "resume": ("queue_resumed", _resume),
        "cancel": ("task_cancelled", _cancel),
        "replay": ("job_begun", replay),
    }
    return [
        *(Route(f"/queues/{{queue}}/{word}", on_queue(*each), methods=["POST"]) for word, each in actions.items()),
        *(Route(f"/jobs/{{job}}/{word}", on_job(step), methods=["POST"]) for word, step in JOB_STEPS.items()),
        Route("/jobs", for_operators(show_jobs)),
        Route("/undelete", for_operators(undelete), methods=["POST"]),
    ]


def _rate_of(request: Request) -> float | None:
    try:
        rate = float(request.query_params.get("rate", ""))
    except ValueError:
        return None
    return rate if rate > 0 and math.isfinite(rate) else None


def _begun(job: BulkJob | None, what: str) -> Response:
    if job is None:
        return JSONResponse({"error": "an earlier job of this kind is not done yet"}, 409)
    return JSONResponse({"job": job.name, what: job.total, "rate": job.rate})


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
