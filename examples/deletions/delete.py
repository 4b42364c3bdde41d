"""A producer of ``drop_deleted``: has media deleted whose ids it reads, one in each line.

README.md says how to run it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

STREAM = "drop_deleted"
GROUP = "media_drops"
"""The consumer group of avion-media."""
MAX_IDS = 10_000
"""In one entry, which may be 1 MiB long: room for 35,000 ids of uploads, or 15,000 of remote media."""


def connect(url: str) -> Any:
    """A client that repeats a command whose answer did not come: to write a deletion twice changes nothing."""
    retry = Retry(ExponentialBackoff(cap=5), 20)
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=5, retry=retry)


def delete(client: Any, media_ids: Sequence[str]) -> None:
    """Have these media deleted. They are gone from the origin within seconds, and can be undeleted for a day."""
    for start in range(0, len(media_ids), MAX_IDS):
        event = {"media_ids": media_ids[start : start + MAX_IDS]}
        client.xadd(STREAM, {"event": json.dumps(event)})


def trim(client: Any) -> None:
    """Remove the entries before the first that avion-media has not acknowledged."""
    group = next((each for each in client.xinfo_groups(STREAM) if each["name"] == GROUP), None)
    if group is None:
        return  # no replica has read yet
    oldest_unacknowledged = client.xpending(STREAM, GROUP)["min"]
    client.xtrim(STREAM, minid=oldest_unacknowledged or group["last-delivered-id"], approximate=False)


if __name__ == "__main__":
    client = connect(os.environ.get("AVION_MEDIA_REDIS__URL", "redis://127.0.0.1:6379/0"))
    delete(client, sys.stdin.read().split())
    trim(client)
