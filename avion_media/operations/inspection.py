"""Everything that is stored about one media item, in the bucket and on Redis, for `inspect` and the console."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from avion_media.backends.queue import TaskQueue
from avion_media.backends.queue.attempts import Attempt, attempts_at
from avion_media.backends.queue.entries import subject_of
from avion_media.backends.queue.task_scan import FoundTask, TaskLocation, lease_info, visit_tasks_of
from avion_media.backends.redis import Redis, as_map
from avion_media.backends.remote import breaker_state
from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import find, read_if_there, stored_sizes
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import DespiteUnreadable
from avion_media.common.ids import AnyId, MediaId, RemoteId, RemoteIds, id_or_none
from avion_media.common.media import HOST_METADATA, in_all_formats, readable
from avion_media.common.records import UNREADABLE, JsonRecord, UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import EVENTS_STREAM, QUEUES, Status
from avion_media.common.telemetry.traces import trace_of_medium
from avion_media.items.deletion import DeletionRecords
from avion_media.items.item import Items
from avion_media.items.moderation import Block, BlockState, ModerationRecords, waits
from avion_media.items.moderation.evidence import EVIDENCE, RECORD
from avion_media.items.moderation.records import NOTICE
from avion_media.items.private.revocations import Revocations
from guarded_fetch import InvalidUrl, parse_remote_url
from trio_redis import run_all

_UNREADABLE: Final = "this version cannot read its record; use the version of the service that wrote it"
_REQUESTS_PER_SECOND = 100.0
_AT_ONCE = 8
_MAX_RECORD_BYTES = 1 << 20
_CLOCKS_S = 3600.0
_EVENTS = 10_000  # looked at; more are hardly kept


def format_time(unix_s: float) -> str:
    """Return a Unix time as ISO 8601, UTC; empty for 0."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds") if unix_s else ""


def id_meant(text: str, remote_ids: ResourceSlot[RemoteIds]) -> AnyId | None:
    """Return the media item that a text names: by its id, by a URL on the origin, or by that of a remote file.

    A URL is one on the origin if its path is one of the origin's, wherever that is: a CDN can be in front. Raises
    `Unavailable` for the URL of a remote file, if the key of their ids was not read yet.
    """
    if any_id := id_or_none(text) or id_or_none(text.upper()):
        return any_id
    on_origin = keys.ORIGIN_URL.match(text)
    if on_origin and (any_id := id_or_none(on_origin[1])):
        return any_id
    with suppress(InvalidUrl):
        url = parse_remote_url(text)
        return remote_ids.get().of(str(url))
    return None


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
    now = time.time()
    known: dict[str, Any] = {}
    if state.use.ttl_s:
        known["last_use"] = format_time(state.use.at.timestamp())
    if state.validated:
        known["validated_until"] = format_time(now + fresh_s)
    if state.failure is not None:
        known |= {
            "failed": str(state.failure.reason),
            "failed_at": format_time(state.failure.failed_at),
            "not_asked_until": format_time(now + not_asked_s),
            "by_task": state.failure.task_id,
        }
    if url := next(filter(None, urls), "") or await _indexed_url(items, any_id):
        known["url"] = url
    server = state.failure.server if state.failure is not None else _server_of(urls)
    if server is not None:
        known |= await _server(items.redis, server, now)
    return known or None


async def _indexed_url(items: Items, remote_id: RemoteId) -> str:
    with DespiteUnreadable():
        info = await items.original(remote_id)
        host = "" if info is None else info.metadata.get(HOST_METADATA, "")
        return await items.hosts.url_of(host, remote_id) if host else ""
    return ""


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


async def moderation_records(
    store: ResourceSlot[ObjectStore], media_id: str, status: Status | None
) -> list[dict[str, Any]]:
    """Return its block that was lifted last, its review, block, notice and evidence, each if there is one.

    ``status`` is that on Redis: it shows whether a release is in progress. ``next`` is what an operator can do. Raises
    `Unavailable`.
    """
    records = ModerationRecords(store)
    found: list[dict[str, Any]] = []
    block, held = None, None
    try:
        block = await records.block(media_id)
        if block is not None and block.state is BlockState.LIFTED:
            ended = {name: value for name, value in _of_block(block).items() if name not in ("state", "entries")}
            found.append({"record": "lifted", **ended})
        elif block is not None:
            found += [{"record": "lifted", **_shown(asdict(each))} for each in block.earlier[-1:]]
    except UnreadableRecord as error:
        found.append({"record": "blocked", "unreadable": error.why, "next": _UNREADABLE})
    try:
        held = await records.held(media_id)
    except UnreadableRecord as error:
        found.append({"record": "held", "unreadable": error.why, "next": _UNREADABLE})
    if held is not None:
        is_waiting = waits(held, status)
        decide = f"decide: `avion-media review release {media_id}` or `avion-media review block {media_id}`"
        review = {
            "record": "held" if is_waiting else "released",
            "at": held.at,
            "match": held.match,
            "source": held.source,
            "next": f"it is held; {decide}" if is_waiting else "",
        }
        found.append(_shown(review))
    if block is not None and block.in_force:
        unblock = f"it is blocked; to lift the block: `avion-media unblock {media_id}`"
        changing = "its block is not completed yet; the service completes it"
        found.append({"record": "blocked", **_of_block(block), "next": unblock if block.settled else changing})
    return [*found, *await _notice_and_evidence(store, media_id)]


async def _notice_and_evidence(store: ResourceSlot[ObjectStore], media_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    decide = f"decide: `avion-media block {media_id}` or `avion-media review dismiss {media_id}`"
    records: tuple[tuple[JsonRecord[Any], str, str], ...] = (
        (NOTICE, f"{keys.NOTICE_PREFIX}{media_id}", decide),
        (EVIDENCE, f"{keys.QUARANTINE_PREFIX}{media_id}/{RECORD}", ""),
    )
    for record, key, following in records:
        raw = await read_if_there(store.get(), key, max_bytes=_MAX_RECORD_BYTES)
        if raw is None:
            continue
        try:
            described = {**asdict(record.read(raw, key)), "next": following}
        except UnreadableRecord as error:
            described = {"unreadable": error.why, "next": _UNREADABLE}
        shown = {name: value for name, value in described.items() if name not in ("media_id", "cause")}
        found.append({"record": record.kind, **_shown(shown)})
    return found


def _of_block(block: Block) -> dict[str, Any]:
    described = {
        "state": block.state,
        "at": block.at,
        "by": block.by,
        "note": block.note,
        "cause": block.cause,
        "match": block.match,
        "source": block.source,
        "evidence": "discarded" if block.discard_evidence else "",
        "ground": block.ground,
        "requested_at": block.requested_at,
        "automated": block.automated,
        "entries": [str(each) for each in block.entries],
        "copies": list(block.copies),
        "lifted_at": block.lifted_at,
        "lifted_by": block.lifted_by,
        "lifted_note": block.lifted_note,
    }
    return _shown(described)


def _shown(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if value}


async def media_report(items: Items, any_id: AnyId, *, url_ttl_s: float) -> dict[str, Any]:
    """Everything about one media item as plain data. Walks through all waiting tasks, and changes nothing but the index
    of dead letters, which it brings up to date.

    ``status``, ``deletion``, ``revocation``, ``moderation``, ``remote``, ``objects``, ``tasks``, ``events`` and
    ``attempts`` (the last ones) are empty or None where nothing is known. ``unreadable`` has the keys of its records
    that this version cannot read, with the reasons. Raises `Unavailable` when the store or Redis is unavailable.
    """
    redis = items.redis
    tasks = await _find_tasks(items, any_id)
    status = await items.statuses.get(str(any_id))
    report = {
        "media_id": str(any_id),
        **_in_the_id(any_id, url_ttl_s),
        "status": None if status is None else _status(status),
        "deletion": await _deletion(redis, any_id),
        "revocation": await _revocation(items, any_id),
        "moderation": await moderation_records(items.store, str(any_id), status),
        "remote": await remote_memory(items, any_id, [each.entry.task.fields.get("remote_url", "") for each in tasks]),
        "objects": await _objects(items, any_id),
        "tasks": [await _task(redis, each) for each in tasks],
        "events": await _events(redis, any_id),
        "attempts": [_attempt(each) for each in await attempts_at(redis, str(any_id))],
    }
    unreadable = {key: why for key, why in UNREADABLE.found.items() if str(any_id) in key}
    return report | {"unreadable": unreadable or None}


def is_unknown(known: dict[str, Any]) -> bool:
    """Return whether a report says nothing beyond what is in the id itself."""
    parts = ("status", "deletion", "revocation", "moderation", "remote", "objects", "tasks", "events", "attempts")
    return not any(known[name] for name in (*parts, "unreadable"))


def _in_the_id(any_id: AnyId, url_ttl_s: float) -> dict[str, Any]:
    if not isinstance(any_id, MediaId):
        return {}
    expires = any_id.created + timedelta(seconds=url_ttl_s)
    trace = trace_of_medium(any_id.text)
    return {
        **({"trace_id": f"{trace.trace_id:032x}"} if trace is not None else {}),
        "declared": any_id.format.name,
        "visibility": "private" if any_id.is_private else "public",
        "requested_at": any_id.created.isoformat(timespec="seconds"),
        "url_expires_at": expires.isoformat(timespec="seconds"),
    }


def _status(status: Status) -> dict[str, Any]:
    return {
        "state": str(status.state),
        **({"reason": str(status.reason), "retryable": status.retryable} if status.reason else {}),
        **(readable(status.facts.to_metadata()) if status.facts else {}),
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


async def _revocation(items: Items, any_id: AnyId) -> dict[str, Any] | None:
    """Return what is revoked of a private media item. Tokens of a lower generation are refused."""
    if not any_id.is_private:
        return None
    with DespiteUnreadable():
        found = await Revocations(items.store, items.redis).stored(str(any_id))
        if found.generation:
            return {"generation": found.generation, "all": found.all, "audiences": len(found.audiences)}
    return None


async def _objects(items: Items, any_id: AnyId) -> list[dict[str, Any]]:
    configured = [size.name for size in items.sizes]
    sizes = {*configured, *await stored_sizes(items.store, RateLimiter(_REQUESTS_PER_SECOND))}
    store = items.store.get()
    pages = store.list_keys(f"{keys.QUARANTINE_PREFIX}{any_id}/")
    evidence = [key async for page in pages for key in page]
    possible = [*keys.all_of(any_id, in_all_formats(sorted(sizes))), *evidence]
    infos = await run_all([partial(find, store, key) for key in possible], _AT_ONCE)
    return [
        {
            "key": info.key,
            "bytes": info.size_bytes,
            "content_type": info.content_type,
            "last_modified": info.last_modified.isoformat(timespec="seconds"),
            **({"metadata": info.metadata} if info.metadata else {}),
        }
        for info in infos
        if info is not None
    ]


async def _find_tasks(items: Items, any_id: AnyId) -> list[FoundTask]:
    found: dict[tuple[str, ...], FoundTask] = {}  # one that moved meanwhile is seen twice

    def visit(task: FoundTask) -> bool:
        if subject_of(task.queue, task.entry.task, items.remote_ids) == str(any_id):
            found[task.queue, task.location, task.entry.entry_id, task.entry.task.task_id] = task
        return True

    for queue in QUEUES:
        await visit_tasks_of(items.redis, queue, [str(any_id)], visit)
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
    if found.location is TaskLocation.WAITING:
        stats = await TaskQueue(redis, found.queue).stats()
        if stats.paused_since:
            described["queue_paused_by"] = stats.paused_by or "an operator"
    return {name: value for name, value in described.items() if value not in ("", 0)}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    described = {
        "at": format_time(attempt.began_at),
        "queue": attempt.queue,
        "task_id": attempt.task_id,
        "number": attempt.number,
        "worker": attempt.worker,
        "duration_s": attempt.duration_s,
        "age_s": attempt.age_s,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "steps": [
            {"name": name, "at_ms": int(at), "ms": int(took)}
            for name, at, took in (line.split("\t") for line in attempt.steps.splitlines())
        ],
    }
    return _shown(described)


async def _events(redis: Redis, any_id: AnyId) -> list[dict[str, Any]]:
    # An upload has no events from before it, less the difference of two clocks. Ten thousand events take 50 ms to read.
    first = f"{max(0.0, any_id.created.timestamp() - _CLOCKS_S) * 1000:.0f}" if isinstance(any_id, MediaId) else "-"
    rows = await redis.execute("XREVRANGE", EVENTS_STREAM, "+", first, "COUNT", _EVENTS)
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
