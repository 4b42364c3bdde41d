"""What is remembered of a remote media item and of its server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from avion_media.backends.redis import Redis
from avion_media.backends.remote import InvalidUrl, breaker_state, parse_remote_url
from avion_media.common.ids import AnyId, RemoteId
from avion_media.items.item import Items
from avion_media.operations.inspection.timestamps import format_time


async def remote_memory(items: Items, any_id: AnyId, urls: Sequence[str]) -> dict[str, Any] | None:
    """None when there is nothing. ``urls`` are those of the media item's tasks: they name its server, if no failure
    does.

    Raises `Unavailable`.
    """
    if not isinstance(any_id, RemoteId):
        return None
    states = items.remote_states
    state = await states.load(any_id)
    not_asked_s, fresh_s = await states.seconds_left(any_id)
    last_use = (await states.last_uses([str(any_id)])).get(str(any_id))
    now = time.time()
    known: dict[str, Any] = {}
    if last_use is not None:
        known["last_use"] = format_time(last_use.timestamp())
    if state.validated:
        known["validated_until"] = format_time(now + fresh_s)
    if state.failure is not None:
        known |= {
            "failed": str(state.failure.reason),
            "failed_at": format_time(state.failure.failed_at),
            "not_asked_until": format_time(now + not_asked_s),
            "by_task": state.failure.task_id,
        }
    server = state.failure.server if state.failure is not None else _server_of(urls)
    if server is not None:
        known |= await _server(items.redis, server, now)
    return known or None


def _server_of(urls: Sequence[str]) -> str | None:
    try:
        return next((parse_remote_url(url).server for url in urls), None)
    except InvalidUrl:
        return None


async def _server(redis: Redis, server: str, now: float) -> dict[str, Any]:
    trouble = await breaker_state(redis, server)
    if trouble is None:
        return {"server": server}
    paused = {"server_paused_until": format_time(trouble.paused_until)} if trouble.paused_until > now else {}
    return {"server": server, "server_failures": trouble.failures, "server_cause": trouble.cause, **paused}
