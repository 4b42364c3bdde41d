"""`avion-media init`: create what is missing in the store and on Redis. Safe to repeat."""

from __future__ import annotations

from datetime import UTC, datetime

from avion_media.backends.queue import open_queues
from avion_media.backends.redis import Redis, RedisRefused, open_redis
from avion_media.backends.store import Lives, open_store, read_secret
from avion_media.common import keys
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.items.state.sweep_state import SweepState
from avion_media.process.settings import ProcessSettings


async def prepare(config: ProcessSettings, *, new_bucket: bool = False) -> tuple[list[str], list[str]]:
    """Create bucket, CORS and lifecycle rules, the key of the ids of remote media, and the consumer groups.

    Returns what was created, and warnings about Redis. Raises `Unavailable` without the store or Redis, and
    `StoreRefused` if the store does not allow the bucket or one of its rules; what was created until then stays, and
    the next call goes on from there. Unless ``new_bucket``, it also raises `Unavailable` if the bucket does not exist
    and the last sweep counted media in it: an empty bucket in its place would hide the loss.
    """
    async with (
        open_redis(config.redis.url, timeout_s=config.redis.timeout, state_url=config.status.redis_url) as redis,
        open_store(config.s3, watched=False) as store,
    ):
        counted = 0 if new_bucket else (await SweepState(redis).read()).originals
        created = await store.ensure_bucket(lives_of(config), counted)
        if not await store.exists(keys.REMOTE_SECRET):
            await read_secret(store, keys.REMOTE_SECRET)
            created.append(f"key of the ids of remote media, {keys.REMOTE_SECRET}")
        queues = open_queues(redis)
        for name, queue in queues.items():
            if await queue.ensure_group():
                created.append(f"consumer group of {name}")
        # Redis knows all completed uploads from now on, so the sweep must not assume a data loss.
        await SweepState(redis).history_complete_since(queues[PROCESSING_QUEUE], datetime.now(UTC), remember=True)
        return created, await redis_warnings(redis)


def lives_of(config: ProcessSettings) -> Lives:
    """Return how long the lifecycle rules keep objects."""
    return Lives(config.tasks.accepted_life_s, config.upload.multipart_ttl)


async def redis_warnings(redis: Redis) -> list[str]:
    """Return the settings of all Redis servers that can lose data, also of those for statuses. Raises `Unavailable`."""
    warnings = await warnings_of(redis)
    if redis.state is not redis:
        warnings += [f"{redis.state.label}{warning}" for warning in await warnings_of(redis.state)]
    return warnings


async def warnings_of(redis: Redis) -> list[str]:
    """Return the settings of the servers of one URL that can lose data; empty if there are none, or INFO is refused.

    Raises `Unavailable`.
    """
    try:
        infos = await redis.info()
    except RedisRefused:
        return []
    never_saved = await _servers_that_never_save(redis)
    warnings: dict[str, list[str]] = {}
    for server, info in infos.items():
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            warning = f"Redis may evict keys: maxmemory-policy is {policy}, should be noeviction"
            warnings.setdefault(warning, []).append(server)
        if info.get("aof_enabled") == "0" and server in never_saved:
            warning = "Redis keeps nothing over a restart: neither appendonly nor save is set"
            warnings.setdefault(warning, []).append(server)
    if len(infos) == 1:
        return list(warnings)
    return [f"{warning} (on {', '.join(sorted(servers))})" for warning, servers in warnings.items()]


async def _servers_that_never_save(redis: Redis) -> set[str]:
    """None, where the servers do not tell."""
    try:
        replies = await redis.execute_on_all("CONFIG", "GET", "save")
    except RedisRefused:  # managed services forbid CONFIG; INFO does not say it
        return set()
    return {server for server, reply in replies.items() if not dict(reply).get(b"save")}
