"""All that is known of one media item, wherever it is written: for `avion-media inspect` and the console."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from avion_media.backends.queue.dead_letter_index import visit_tasks_of
from avion_media.backends.queue.task_scan import FoundTask, TaskLocation, lease_info
from avion_media.backends.redis import Redis, as_map
from avion_media.backends.store.stored_sizes import stored_sizes
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import ObjectMissing
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.media import in_all_formats
from avion_media.common.records import UNREADABLE
from avion_media.common.tasks import EVENTS_STREAM, QUEUES, Status
from avion_media.common.telemetry.tracing import trace_of_medium
from avion_media.items.deletion import DeletionRecords
from avion_media.items.item import Items
from avion_media.operations.inspection.moderation import moderation_records
from avion_media.operations.inspection.remote import remote_memory
from avion_media.operations.inspection.timestamps import format_time

_REQUESTS_PER_SECOND = 100.0
_EVENTS = 10_000  # looked at; more are hardly kept


async def media_report(items: Items, any_id: AnyId, *, url_ttl_s: float) -> dict[str, Any]:
    """Everything about one media item as plain data. Walks through all waiting tasks, and changes nothing but the index
    of dead letters, which it brings up to date.

    ``status``, ``deletion``, ``moderation``, ``remote``, ``objects``, ``tasks`` and ``events`` are empty or None where
    nothing is known. ``unreadable`` has the keys of its records that this version cannot read, with the reasons.
    Raises `Unavailable` when the store or Redis is unavailable.
    """
    redis = items.redis
    tasks = await _find_tasks(redis, any_id)
    status = await items.statuses.get(str(any_id))
    report = {
        "media_id": str(any_id),
        **_in_the_id(any_id, url_ttl_s),
        "status": None if status is None else _status(status),
        "deletion": await _deletion(redis, any_id),
        "moderation": await moderation_records(items.store, str(any_id), status),
        "remote": await remote_memory(items, any_id, [each.entry.task.fields.get("remote_url", "") for each in tasks]),
        "objects": await _objects(items, any_id),
        "tasks": [await _task(redis, each) for each in tasks],
        "events": await _events(redis, any_id),
    }
    unreadable = {key: why for key, why in UNREADABLE.found.items() if str(any_id) in key}
    return report | {"unreadable": unreadable or None}


def is_unknown(known: dict[str, Any]) -> bool:
    """Return whether a report says nothing beyond what is in the id itself."""
    parts = ("status", "deletion", "moderation", "remote", "objects", "tasks", "events", "unreadable")
    return not any(known[name] for name in parts)


def _in_the_id(any_id: AnyId, url_ttl_s: float) -> dict[str, Any]:
    if not isinstance(any_id, MediaId):
        return {}
    expires = any_id.created + timedelta(seconds=url_ttl_s)
    trace = trace_of_medium(any_id.text)
    return {
        **({"trace_id": f"{trace.trace_id:032x}"} if trace is not None else {}),
        "declared": any_id.format.name,
        "requested_at": any_id.created.isoformat(timespec="seconds"),
        "url_expires_at": expires.isoformat(timespec="seconds"),
    }


def _status(status: Status) -> dict[str, Any]:
    return {
        "state": str(status.state),
        **({"reason": str(status.reason), "retryable": status.retryable} if status.reason else {}),
        **(status.facts.to_metadata() if status.facts else {}),
    }


async def _deletion(redis: Redis, any_id: AnyId) -> dict[str, str] | None:
    record = (await DeletionRecords(redis).get_many([str(any_id)])).get(str(any_id))
    if record is None:
        return None
    known = {"state": str(record.state), "deleted_at": record.deleted_at.isoformat(timespec="seconds")}
    if record.is_deleted:
        return known | {"objects_go_at": record.due.isoformat(timespec="seconds")}
    undeleted_at = datetime.fromtimestamp(record.undeleted_at_ms / 1000, UTC)
    return known | {"undeleted_at": undeleted_at.isoformat(timespec="seconds")}


async def _objects(items: Items, any_id: AnyId) -> list[dict[str, Any]]:
    configured = [size.name for size in items.sizes]
    sizes = {*configured, *await stored_sizes(items.store, RateLimiter(_REQUESTS_PER_SECOND))}
    store = items.store.get()
    found = []
    pages = store.list_keys(f"{keys.QUARANTINE_PREFIX}{any_id}/")
    evidence = [key async for page in pages for key in page]
    for key in (*keys.all_of(any_id, in_all_formats(sorted(sizes))), *evidence):
        try:
            info = await store.head(key)
        except ObjectMissing:
            continue
        found.append(
            {
                "key": key,
                "bytes": info.size_bytes,
                "content_type": info.content_type,
                "last_modified": info.last_modified.isoformat(timespec="seconds"),
                **({"metadata": info.metadata} if info.metadata else {}),
            }
        )
    return found


async def _find_tasks(redis: Redis, any_id: AnyId) -> list[FoundTask]:
    found: dict[tuple[str, ...], FoundTask] = {}  # one that moved meanwhile is seen twice

    def visit(task: FoundTask) -> bool:
        if task.subject == str(any_id):
            found[task.queue, task.location, task.entry.entry_id, task.entry.task.task_id] = task
        return True

    for queue in QUEUES:
        await visit_tasks_of(redis, queue, [str(any_id)], visit)
    return list(found.values())


async def _task(redis: Redis, found: FoundTask) -> dict[str, Any]:
    entry = found.entry
    described: dict[str, Any] = {
        "queue": found.queue,
        "location": str(found.location),
        "task_id": entry.task.task_id,
        "remote_url": entry.task.fields.get("remote_url", ""),
        "attempts_used": entry.attempts,
        "error": entry.error,
        "first_seen": format_time(entry.first_seen),
        "replays": entry.replays,
        "traceparent": entry.task.traceparent,
    }
    if found.location is TaskLocation.DELAYED:
        described["due_at"] = format_time(found.due_at or 0.0)
    elif found.location is not TaskLocation.WAITING:
        described["entry_id"] = entry.entry_id
    if found.location is TaskLocation.DEAD_LETTERS:
        described["failed_at"] = format_time(entry.failed_at)
    if found.location is TaskLocation.STREAM:
        lease = await lease_info(redis, found.queue, entry.entry_id)
        if lease is not None:
            described |= {
                "consumer": lease.consumer,
                "deliveries": lease.deliveries,
                "renewed_s_ago": round(lease.idle_s, 1),
            }
    return {name: value for name, value in described.items() if value not in ("", 0)}


async def _events(redis: Redis, any_id: AnyId) -> list[dict[str, Any]]:
    rows = await redis.execute("XREVRANGE", EVENTS_STREAM, "+", "-", "COUNT", _EVENTS)
    found = []
    for entry_id, flat in reversed(rows):
        fields = as_map(flat)
        try:
            event = json.loads(fields.get(b"event", b""))
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("media_id") == str(any_id):
            rest = {name: value for name, value in event.items() if name != "media_id"}
            found.append({"at": format_time(int(entry_id.partition(b"-")[0]) / 1000), **rest})
    return found
