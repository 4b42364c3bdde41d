"""The memory of statuses and events in Redis at 100 uploads a second: ``python -m tests.scale.memory``.

The service's own code writes to a real Redis. For each kind it prints the bytes of one key, times how many live at
once. For comparison it prints the same for the former design: JSON statuses for seven days, and event markers for a
day.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import redis as redis_py
import trio

from avion_media.backends.redis import open_redis
from avion_media.common import keys
from avion_media.common.formats import JPEG
from avion_media.common.ids import MediaId, new_media_id
from avion_media.common.media import MediaFacts
from avion_media.common.tasks import State, Status
from avion_media.items.settings import EventsConfig
from avion_media.items.state import READY_TTL_S, MediaEvents, StatusStore
from tests.services import ServiceFailed, redis_server

Client: TypeAlias = Any  # redis-py's types cover options that no measurement here uses

RATE = 100.0  # uploads a second
TARGET_BYTES = 300e6
DAY_S = 86_400.0
SIZES = ("small", "medium", "large")
FACTS = MediaFacts(JPEG, 1_234_567, 4032, 3024, "LEHV6nWB2yk8pyo0adR*.7kCMdnj", "", thumbnails=SIZES)
_USAGE_ERROR = 2
_MARKER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of key: its bytes, and how many seconds it lives, or the maximum number."""

    name: str
    bytes_each: float
    life_s: float
    most: float = float("inf")

    @property
    def total_bytes(self) -> float:
        """Bytes of all keys at `RATE`."""
        return self.bytes_each * min(RATE * self.life_s, self.most)


async def measure(url: str, count: int) -> tuple[list[Kind], list[Kind]]:
    """Return the kinds of now, and of the former design."""
    media = [new_media_id(JPEG, time.time_ns() // 1_000_000) for _ in range(count)]
    with redis_py.Redis.from_url(url) as client:
        async with open_redis(url) as redis:
            statuses, events = StatusStore(redis), MediaEvents(redis)

            async def put(media_id: MediaId) -> None:
                await statuses.put(_ready(media_id), READY_TTL_S)

            async def put_json(media_id: MediaId) -> None:
                key = f"media_status:{{{media_id.text[-2:]}}}{media_id}"
                await redis.execute("SET", key, _as_json(_ready(media_id)), "PX", 7 * 86_400_000)

            async def publish(media_id: MediaId) -> None:
                await events.publish("media.ready", media_id.text, {"content_type": "image/jpeg"})

            status_bytes = await _bytes_each(client, media, put)
            json_bytes = await _bytes_each(client, media, put_json)
            both = await _bytes_each(client, media, publish)
            client.delete("media_events")
            marker = (client.info("memory")["used_memory"] - _empty(client)) / count
            marker = min(marker, both)
    entry, most = both - marker, EventsConfig().max_entries
    now = [
        Kind("READY status, 1 h", status_bytes, READY_TTL_S),
        Kind("event marker, 1 h", marker, _MARKER_S),
        Kind(f"event, {most} kept", entry, float("inf"), most),
    ]
    before = [
        Kind("READY status as JSON, 7 d", json_bytes, 7 * DAY_S),
        Kind("event marker, 1 d", marker, DAY_S),
        Kind("event, 10000 kept", entry, float("inf"), 10_000),
    ]
    return now, before


_EMPTY: dict[int, int] = {}


def _empty(client: Client) -> int:
    return _EMPTY[id(client)]


async def _bytes_each(client: Client, media: list[MediaId], write: Callable[[MediaId], Awaitable[None]]) -> float:
    await write(media[0])  # afterwards the server knows the scripts
    client.flushall()
    before = _EMPTY[id(client)] = client.info("memory")["used_memory"]
    for media_id in media:
        await write(media_id)
    return float(client.info("memory")["used_memory"] - before) / len(media)


def _ready(media_id: MediaId) -> Status:
    facts = replace(FACTS, sha256=secrets.token_hex(32))
    return Status(media_id.text, State.READY, facts=facts, thumbnails=keys.origin_paths(media_id, SIZES))


def _as_json(status: Status) -> str:
    assert status.facts is not None
    facts = status.facts.to_metadata()
    document = {"state": "READY", "facts": facts, "size_bytes": status.facts.size_bytes}
    return json.dumps(document | {"thumbnails": status.thumbnails}, separators=(",", ":"))


def _print(title: str, kinds: list[Kind]) -> float:
    total = sum(kind.total_bytes for kind in kinds)
    print(f"{title}: {total / 1e6:.0f} MB at {RATE:g} uploads a second")
    for kind in kinds:
        print(f"  {kind.name:<28}{kind.bytes_each:>6.0f} bytes each{kind.total_bytes / 1e6:>10.0f} MB")
    return total


def main() -> int:
    """Return 0 if the sum is at most `TARGET_BYTES`."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--uploads", type=int, default=20_000)
    arguments = parser.parse_args()
    try:
        with redis_server() as url:
            now, before = trio.run(measure, url, arguments.uploads)
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    _print("before", before)
    return 0 if _print("now", now) <= TARGET_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
