"""A replica that stands still through a deletion and its undelete does not delete the medium again when it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
import redis as redis_py
import trio

from avion_media.backends.redis import open_redis
from avion_media.common.formats import PNG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import DeletionRecords, DeletionState
from tests.service.harness import eventually

HOUR_S = 3600.0


class Listener:
    """The process, and what it prints."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "tests.integration.items.deletion.listener", url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def marked(self) -> list[str]:
        """The media that the next notice marked."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()


@pytest.fixture
def listener(redis_url: str) -> Iterator[Listener]:
    listener = Listener(redis_url)
    with listener.process:
        yield listener
        listener.process.kill()


def an_id() -> str:
    return str(new_media_id(PNG, int(datetime.now(UTC).timestamp() * 1000)))


async def delete_and_undelete(url: str, media_id: str) -> None:
    """What the other replicas do meanwhile."""
    async with open_redis(url) as redis:
        records = DeletionRecords(redis)
        (mark,) = await records.mark([media_id], delay_s=HOUR_S, lower_bound_ms=time.time_ns() // 1_000_000)
        assert await records.undelete({media_id: mark.generation}, await records.issue_undelete())


async def state_of(url: str, media_id: str) -> DeletionState | None:
    async with open_redis(url) as redis:
        record = await DeletionRecords(redis).get(media_id)
        return None if record is None else record.state


def test_a_notice_that_it_receives_after_the_undelete_is_void(redis_url: str, listener: Listener) -> None:
    first, medium = an_id(), an_id()
    with redis_py.Redis.from_url(redis_url) as client:

        def publish(media_id: str) -> int:
            subscribers: int = client.publish(DROP_DELETED, json.dumps({"media_ids": [media_id]}))
            return subscribers

        eventually(partial(publish, first), "the subscription")
        assert listener.marked() == [first]
        listener.process.send_signal(signal.SIGSTOP)
        publish(medium)
        trio.run(delete_and_undelete, redis_url, medium)
        listener.process.send_signal(signal.SIGCONT)
        assert listener.marked() == []
        assert trio.run(state_of, redis_url, medium) is DeletionState.UNDELETED
        publish(medium)  # a deletion after the undelete counts
        assert listener.marked() == [medium]
        assert trio.run(state_of, redis_url, medium) is DeletionState.MARKED
