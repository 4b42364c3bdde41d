"""The role ``webhooks``: one replica turns events into tasks, and all of them deliver."""

from __future__ import annotations

import json
import math
from functools import partial

import trio

from avion_media.backends.redis import LockLost, Seats
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import EVENTS_STREAM, WEBHOOK_QUEUE
from avion_media.items.state.events import EventReader
from avion_media.nodes import consumers
from avion_media.nodes.credential_reload import ReloadingFiles, open_endpoints
from avion_media.process.runtime import Runtime
from avion_media.servers.settings import ServerSettings
from avion_media.workers.endpoints import Endpoint
from avion_media.workers.webhooks import (
    ENDPOINT_SLOTS,
    MAX_AGE_S,
    MAX_BACKOFF_S,
    DeliverWebhook,
    Webhooks,
    posters_of,
)
from supervisors import Child, Supervisor, Worker
from trio_redis import Backoff
from trio_telemetry import bind_path, get_logger

_GROUP = "media_webhooks"
_SLOTS = 16
_SEAT_TTL_S = 15.0
_BLOCK_S = 5.0
_BATCH = 100  # events that are queued before the limit of each endpoint is checked again
_log = get_logger()


def webhooks(runtime: Runtime, config: ServerSettings) -> Supervisor:
    """Delivery, the events to deliver, and the endpoints."""
    files = open_endpoints(config.webhooks)
    hosts = consumers.hosts_of(lambda: runtime.redis, config.remote, slots=ENDPOINT_SLOTS)
    posters = posters_of(config.remote, consumers.user_agent_of(config))
    sender = Webhooks(runtime.redis, lambda: files.value, posters, hosts, runtime.telemetry)
    runtime.observed.endpoints_file_is_valid = lambda: files.is_current
    beside = [
        Worker("events", partial(_queue_events, runtime, sender, config.webhooks.max_waiting), grace_s=1.0),
        Worker("endpoints", partial(_watch, files), grace_s=1.0),
    ]
    limits = {"max_age_s": MAX_AGE_S, "max_backoff_s": MAX_BACKOFF_S, "max_deferral_s": math.inf}
    return consumers.subtree(
        runtime,
        "webhooks",
        WEBHOOK_QUEUE,
        DeliverWebhook(sender),
        _SLOTS,
        tenant_cap=ENDPOINT_SLOTS,
        beside=beside,
        **limits,
    )


async def _watch(files: ReloadingFiles[dict[str, Endpoint]], child: Child[None]) -> None:
    bind_path(child.path)
    child.started()
    with child.until_stopping():
        await files.watch()


async def _queue_events(runtime: Runtime, sender: Webhooks, max_waiting: int, child: Child[None]) -> None:
    """One replica reads the events; the others wait for its seat."""
    bind_path(child.path)
    child.started()
    seats = Seats(runtime.redis, f"{{{EVENTS_STREAM}}}:webhooks", 1, ttl_s=_SEAT_TTL_S)
    pause = Backoff()
    with child.until_stopping():
        while True:
            try:
                async with (await seats.wait()).held():
                    await _queue_while_held(runtime, sender, max_waiting, pause)
            except (LockLost, Unavailable):
                await trio.sleep(pause.failed())


async def _queue_while_held(runtime: Runtime, sender: Webhooks, max_waiting: int, pause: Backoff) -> None:
    reader, queue = EventReader(runtime.redis, _GROUP), runtime.items.queues[WEBHOOK_QUEUE]
    await reader.join()
    while True:
        found = await reader.read(_BATCH, _BLOCK_S)
        for entry_id, text in found:
            try:
                event = json.loads(text)
                str(event["event_id"]), str(event["media_id"]), str(event["type"])
            except (ValueError, KeyError, TypeError):
                _log.error("webhook.unreadable_event", entry_id=entry_id)
                continue
            await sender.queue(queue, event, int(entry_id.partition("-")[0]) / 1000)
        await reader.done([entry_id for entry_id, _ in found])
        if found:
            await sender.drop_oldest(queue, max_waiting)
        pause.succeeded()
