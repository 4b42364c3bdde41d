"""What a large fleet costs Redis: ``python -m tests.scale.fleet``.

So many replicas are connected, each with the real nodes. It prints the CPU time of Redis for one deletion over the
channel, without and with a CDN, from the message to the acknowledgement; for one change of a status, which one replica
watches; and for one lookup of a deletion, as the origin makes it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

import redis as redis_py
import trio

from avion_media.backends.redis import open_redis
from avion_media.backends.store import ObjectStore
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import DROP_DELETED, State, Status
from avion_media.config import Config
from avion_media.items.deletion import LISTENERS
from avion_media.items.deletion.notices import HEARD
from avion_media.items.settings import CdnConfig
from avion_media.items.state import StatusStore
from avion_media.nodes.events import events
from avion_media.process.runtime import Runtime
from avion_media.servers.api.statuses import Watchers
from supervisors import Supervisor
from tests.scale.costs import server_cpu_s
from tests.services import redis_server
from trio_redis import run_all
from trio_telemetry import silence_logging

FLEET = 300
DELETIONS = 4000
PER_SECOND = 2000
CALLS, ROUNDS = 1000, 10
CHANGE_S, LOOKUP_S = 25e-6, 8e-6
AT_ONCE = 16
_PUBLISHED_AT_ONCE = 100
_IDLE_S = 3.0


class _EmptyBucket:
    """The part of the object store that deletions use. Only Redis is measured."""

    async def put(self, key: str, body: bytes, *, content_type: str) -> str:
        return ""

    async def list(self, prefix: str, after: str | None = None) -> AsyncIterator[Any]:
        nothing: tuple[Any, ...] = ()
        for each in nothing:
            yield each

    list_keys = list


async def deletions(url: str, client: Any, *, replicas: int, cdn: bool) -> tuple[float, float]:
    """Return the CPU time of Redis for one deletion (seconds), and the share of a core without any."""
    client.flushall()
    config = Config(redis={"url": url}, cdn=CdnConfig(purge_urls=["http://cdn.example/"]) if cdn else CdnConfig())
    async with AsyncExitStack() as stack:
        fleet = [Runtime(config, frozenset({"events"})) for _ in range(replicas)]
        for each in fleet:
            each.store.fill(cast("ObjectStore", _EmptyBucket()))
            await stack.enter_async_context(each.redis.opened())
        await fleet[0].replay.ensure_complete()
        nursery = await stack.enter_async_context(trio.open_nursery())
        for each in fleet:
            nursery.start_soon(Supervisor("s", [events(each)]).run)
        while client.pubsub_numsub(DROP_DELETED)[0][1] < min(LISTENERS, replicas):  # noqa: ASYNC110 - the server's state
            await trio.sleep(0.1)
        await _publish(client, 1)
        idle = await _idle_share(client)
        before, began = server_cpu_s(client), time.monotonic()
        await _publish(client, DELETIONS)
        took = server_cpu_s(client) - before - idle * (time.monotonic() - began)
        nursery.cancel_scope.cancel()
    return took / DELETIONS, idle


async def _publish(client: Any, count: int) -> None:
    """Delete so many media, one message each, and wait until all are handled."""
    for _ in range(0, count, _PUBLISHED_AT_ONCE):
        chunk = [str(new_media_id(JPEG, time.time_ns() // 1_000_000)) for _ in range(min(_PUBLISHED_AT_ONCE, count))]
        for media_id in chunk:
            client.publish(DROP_DELETED, json.dumps({"media_ids": [media_id]}))
            await trio.lowlevel.checkpoint()
        names = [f"media_deletion:{{{each[-2:]}}}{each}" for each in chunk]
        while client.exists(*names) < len(names) or client.xlen(HEARD):  # noqa: ASYNC110 - the server's state
            await trio.sleep(0.005)


async def _idle_share(client: Any) -> float:
    before, began = server_cpu_s(client), time.monotonic()
    await trio.sleep(_IDLE_S)
    return (server_cpu_s(client) - before) / (time.monotonic() - began)


async def status_changes(url: str, client: Any, *, replicas: int) -> float:
    """Return the CPU time of Redis for one change of a status (seconds). Every replica watches one other media item."""
    client.flushall()
    async with AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(open_redis(url)) for _ in range(replicas)]
        nursery = await stack.enter_async_context(trio.open_nursery())
        watchers = [Watchers() for _ in fleet]
        for number, (redis, each) in enumerate(zip(fleet, watchers, strict=True)):
            nursery.start_soon(redis.keep_listening, each.channels)
            stack.enter_context(each.watching(f"m{number}"))
        while len(client.pubsub_channels()) < replicas:  # noqa: ASYNC110 - the server's state
            await trio.sleep(0.1)
        statuses = StatusStore(fleet[0])

        async def put(number: int) -> None:
            await statuses.put(Status(f"m{number % replicas}", State.PROCESSING), 600)

        cost_s = await _least(client, put, at_once=AT_ONCE)
        nursery.cancel_scope.cancel()
    return cost_s


async def lookups(url: str, client: Any) -> float:
    """Return the CPU time of Redis for one lookup (seconds), while as many as usual are in progress."""
    client.flushall()
    runtime = Runtime(Config(redis={"url": url}), frozenset({"http"}))
    runtime.store.fill(cast("ObjectStore", _EmptyBucket()))
    async with runtime.redis.opened():
        await runtime.replay.ensure_complete()
        media = [str(new_media_id(JPEG, 1_700_000_000_000 + number)) for number in range(CALLS)]
        return await _least(client, lambda number: runtime.replay.is_deleted(media[number]), at_once=AT_ONCE)


async def _least(client: Any, call: Callable[[int], Awaitable[object]], *, at_once: int) -> float:
    """Return the CPU time of Redis for one call (seconds): the least of some rounds, because other programs disturb."""
    costs = []
    for _ in range(ROUNDS):
        before = server_cpu_s(client)
        await run_all([partial(call, number) for number in range(CALLS)], at_once)
        costs.append((server_cpu_s(client) - before) / CALLS)
    return min(costs)


def main() -> int:
    """Return 0 if every figure reaches its goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.fleet", description=__doc__.split("\n")[0])
    parser.add_argument("--replicas", type=int, default=FLEET)
    arguments = parser.parse_args()
    silence_logging()
    kept = []
    with redis_server() as url, redis_py.Redis.from_url(url) as client:
        for cdn in (False, True):
            seconds, idle = trio.run(partial(deletions, url, client, replicas=arguments.replicas, cdn=cdn))
            kept.append(1 / seconds >= PER_SECOND)
            print(
                f"a deletion over the channel, {arguments.replicas} replicas, {'with' if cdn else 'without'} a CDN:"
                f" {seconds * 1e6:.0f} µs of Redis, so {1 / seconds:.0f} a second; to reach {PER_SECOND}"
                f" (idle: {idle * 100:.1f} % of a core)",
                flush=True,
            )
        change = trio.run(partial(status_changes, url, client, replicas=arguments.replicas))
        lookup = trio.run(lookups, url, client)
    for what, seconds, goal_s in (
        (f"a change of a status, {arguments.replicas} replicas, {AT_ONCE} at once", change, CHANGE_S),
        (f"a lookup of the origin, {AT_ONCE} at once", lookup, LOOKUP_S),
    ):
        kept.append(seconds <= goal_s)
        print(f"{what}: {seconds * 1e6:.1f} µs of Redis; to reach {goal_s * 1e6:.0f} µs")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
