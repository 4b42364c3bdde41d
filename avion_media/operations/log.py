"""What keeps the audit log whole: which processes run, which were lost, and what is old enough to go."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from avion_media.backends.redis import Redis
from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import folders, read_if_there
from avion_media.common.clock import now_s, utc_now
from avion_media.common.errors import Unavailable
from avion_media.process.audit.reading import last_place
from avion_media.process.audit.record import (
    AUDIT_PREFIX,
    END,
    EXPIRED,
    LOST,
    SERVICE,
    AuditRecord,
    Place,
    day_prefix,
    drafts,
    owner_of,
    place_of,
    read_line,
)
from avion_media.process.audit.verification import MAX_OBJECT_BYTES, IsRunning, seam
from avion_media.process.runtime import Runtime
from trio_telemetry import get_logger

GONE_AFTER_S: Final = 3600.0
"""A process that is not on the list of replicas, such as a command, is gone if its log was silent for this long."""
_LOOK_BACK_DAYS: Final = 8  # longer than any outage of all replicas after which nobody looked
_MAX_EXPIRED: Final = 100_000  # objects of one sweep, to bound its memory
_ENDED: Final = "media_audit_ended"
"""A sorted set: chains that have ended, and where lost ones did, by when that was found."""
_log = get_logger(path="audit")


async def running_processes(runtime: Runtime) -> tuple[IsRunning, str]:
    """Return what decides whether the process of a chain may still write, and a warning if that is not known.

    A replica reports itself on Redis. If Redis does not respond, every process counts as running.
    """
    now = now_s()
    try:
        replicas = {each.process: each for each in await runtime.replicas.read(now)}
    except Unavailable as error:
        return lambda _process, _last: True, f"which processes run is not known, so missing ends are not: {error}"

    def is_running(process: str, last: datetime) -> bool:
        owner = owner_of(process)
        if owner == runtime.consumer:
            return True
        if owner in replicas:
            return not replicas[owner].is_silent(now)
        return now - last.timestamp() < GONE_AFTER_S

    return is_running, ""


async def note_lost(runtime: Runtime) -> list[str]:
    """Record the chains of the last days whose process is gone without a last record. Return their names.

    Costs a request per chain and day, and two more for each chain that may be lost. Raises `Unavailable`.
    """
    is_running, warning = await running_processes(runtime)
    if warning:
        return []
    store, today = runtime.store.get(), utc_now().date()
    last_days: dict[str, date] = {}
    for days in range(_LOOK_BACK_DAYS, -1, -1):
        day = today - timedelta(days=days)
        async for process in folders(runtime.store, day_prefix(day)):
            last_days[process] = day
    ended = await _ended(runtime.redis)
    lost, over = [], []
    for process in sorted(last_days.keys() - ended):
        place = await last_place(store, last_days[process], process)
        last = None if place is None else await _last_record(store, place)
        if place is None or last is None or is_running(process, datetime.fromisoformat(last.time)):
            continue
        if last.action == END:
            over.append(process)
        elif (where := seam(process, place.number, last)) not in ended:  # it went on, if it has another seam
            over.append(where)
            lost.append(where)
    if lost:
        note = "chains whose process is gone without a last record"
        await runtime.audit.record(drafts(SERVICE, SERVICE, LOST, lost, note=note))
        _log.warning("audit.process_lost", chains=lost)
    await _note_ended(runtime.redis, over)
    return lost


async def _ended(redis: Redis) -> set[str]:
    await redis.execute("ZREMRANGEBYSCORE", _ENDED, "-inf", now_s() - (_LOOK_BACK_DAYS + 1) * 86400)
    found: list[bytes] = await redis.execute("ZRANGE", _ENDED, 0, -1)
    return {each.decode() for each in found}


async def _note_ended(redis: Redis, processes: list[str]) -> None:
    if processes:
        scored = [part for each in processes for part in (now_s(), each)]
        await redis.execute("ZADD", _ENDED, *scored, when_full=True)


async def _last_record(store: ObjectStore, place: Place) -> AuditRecord | None:
    """Return the last record of an object; None if it cannot be read, which `verify` reports."""
    body = await read_if_there(store, place.key, max_bytes=MAX_OBJECT_BYTES)
    try:
        return read_line(body.splitlines()[-1]) if body else None
    except ValueError:
        return None


async def expire(runtime: Runtime, keep_s: float) -> int:
    """Remove the days that are older than this, and record that with the seams to what stays. Return how many objects.

    The record comes first: after a crash between the two, it is written again. Raises `Unavailable`.
    """
    store, before = runtime.store.get(), utc_now().date() - timedelta(seconds=keep_s)
    old: list[str] = []
    lasts: dict[str, Place] = {}
    async for page in store.list_keys(AUDIT_PREFIX):
        wanted = [key for key in page if key < day_prefix(before)]
        old += wanted
        lasts |= {place.process: place for place in map(place_of, wanted) if place is not None}
        if len(wanted) < len(page) or len(old) >= _MAX_EXPIRED:
            break
    if not old:
        return 0
    seams = []
    for process, place in sorted(lasts.items()):
        found = await _last_record(store, place)
        if found is not None and found.action != END:
            seams.append(seam(process, place.number, found))
    note = f"{len(old)} objects of the audit log removed, from before {before} (AUDIT__KEEP)"
    await runtime.audit.record(drafts(SERVICE, SERVICE, EXPIRED, seams, note=note))
    await store.delete(old)
    return len(old)
