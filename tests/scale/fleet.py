"""What a large fleet costs Redis: ``python -m tests.scale.fleet``.

So many replicas are connected, each with the real nodes. It prints the CPU time of Redis for one deletion over the
channel, without and with a CDN, from the message to the acknowledgement.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

import redis as redis_py
import trio

from avion_media.backends.store import ObjectStore
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import DROP_DELETED
from avion_media.common.telemetry import silence_logging
from avion_media.config import Config
from avion_media.items.deletion import LISTENERS
from avion_media.items.deletion.notices import HEARD
from avion_media.items.settings import CdnConfig
from avion_media.nodes.events import events
from avion_media.process.runtime import Runtime
from supervisors import Supervisor
from tests.scale.costs import server_cpu_s
from tests.services import redis_server

FLEET = 300
DELETIONS = 4000
PER_SECOND = 2000
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
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
