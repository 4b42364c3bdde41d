"""A consumer of ``media_events``: handles every event once, survives restarts, and notices what it missed.

README.md says how to run it. Replace `handle` and `catch_up`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

STREAM = "media_events"
REMEMBERED_S = 86_400
"""How long an event is known as handled. The service prevents almost all repetitions for an hour."""


def read_events(client: Any, group: str, consumer: str, missed: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yield each event, and again only if the consumer stopped while it handled it.

    ``missed`` is called before the first event after a gap. The position is stored beside the group, so that a restart
    finds a gap as well. One process reads a group: two in the same group would see gaps where the other one reads.
    """
    position = f"{STREAM}_position:{group}"

    def join(first: str) -> bool:
        try:
            return bool(client.xgroup_create(STREAM, group, first, mkstream=True))
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
            return False

    newest = [] if client.exists(position) else client.xrevrange(STREAM, count=1)
    if join(newest[0][0] if newest else "0") and newest:  # from now on
        client.set(position, json.loads(newest[0][1]["event"])["seq"])
    start = "0"  # what was read and not acknowledged, then what is new
    while True:
        try:
            batches = client.xreadgroup(group, consumer, {STREAM: start}, count=100, block=1000)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            missed()  # Redis lost its data
            join("0")
            continue
        entries = batches[0][1] if batches else []
        if start == "0" and not entries:
            start = ">"
        for entry_id, fields in entries:
            if not fields:  # trimmed before it was handled: the next number says so
                client.xack(STREAM, group, entry_id)
                continue
            event = json.loads(fields["event"])
            known = f"{STREAM}_known:{group}:{event['event_id']}"
            if not client.exists(known):
                last = int(client.get(position) or 0)
                if last and event["seq"] != last + 1:
                    missed()
                yield event
                client.set(known, 1, ex=REMEMBERED_S)
            client.set(position, event["seq"])
            client.xack(STREAM, group, entry_id)


def handle(event: dict[str, Any]) -> None:
    """Do what your service does. It may be called twice for one event, if the process was killed in the middle."""
    print(json.dumps(event), flush=True)


def catch_up() -> None:
    """Events are missing. Ask for the state of each media item that you wait for (GetMediaStatus)."""
    print("events were missed", file=sys.stderr, flush=True)


def main() -> None:
    """Read until SIGTERM, and through every outage of Redis."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    url = os.environ.get("AVION_MEDIA_REDIS__URL", "redis://127.0.0.1:6379/0")
    client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)
    while True:
        try:
            for event in read_events(client, group="posts", consumer="posts-1", missed=catch_up):
                handle(event)
        except redis.RedisError as error:
            print(f"Redis: {error}", file=sys.stderr, flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
