"""The consumer of events and the producer of deletions, as processes that their READMEs start."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import trio

from avion_media.backends.redis import open_redis
from avion_media.items.deletion import NoticeStream
from tests.examples.commands import blocks, follow, script
from tests.examples.conftest import environment
from tests.service.harness import eventually
from tests.services.process import Program


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@contextmanager
def consuming(folder: Path, redis_url: str, log: Path) -> Iterator[Program]:
    (block,) = blocks(folder / "README.md")
    command = f"cd {folder} && {script(block)}"
    settings = [f"{name}={value}" for name, value in environment(AVION_MEDIA_REDIS__URL=redis_url).items()]
    program = Program(["env", "-i", *settings, "bash", "-c", command], log)
    try:
        yield program
    finally:
        program.kill()


def publish(client: Any, seq: int) -> None:
    event = {"seq": seq, "event_id": f"event-{seq}", "type": "media.failed", "media_id": f"m{seq}", "reason": "corrupt"}
    client.xadd("media_events", {"event": json.dumps(event)})


def handled(log: Path) -> list[str]:
    return [json.loads(line)["media_id"] for line in log.read_text().splitlines() if line.startswith("{")]


def test_a_killed_consumer_misses_nothing_and_notices_a_gap(
    examples: Path, client: Any, redis_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "consumer.log"
    with consuming(examples / "events", redis_url, log):
        eventually(lambda: client.exists("media_events"), "the consumer's group")
        publish(client, 1)
        publish(client, 2)
        eventually(lambda: handled(log) == ["m1", "m2"], "two events")
    publish(client, 3)
    publish(client, 4)
    with consuming(examples / "events", redis_url, log):
        eventually(lambda: handled(log) == ["m1", "m2", "m3", "m4"], "what came meanwhile")
    assert "missed" not in log.read_text()
    for seq in (5, 6, 7):
        publish(client, seq)
    client.xtrim("media_events", maxlen=1, approximate=False)
    with consuming(examples / "events", redis_url, log):
        eventually(lambda: handled(log)[-1] == "m7", "the event after the gap")
    assert log.read_text().count("events were missed") == 1


def test_a_gap_before_the_first_handled_event_is_noticed(examples: Path, client: Any) -> None:
    consumer: Any = runpy.run_path(str(examples / "events/consumer.py"))
    gaps: list[int] = []
    publish(client, 1)
    with ThreadPoolExecutor(1) as pool:
        killed = consumer["read_events"](client, "late", "late-1", lambda: gaps.append(0))
        handling = pool.submit(next, killed)
        eventually(lambda: client.xinfo_groups("media_events"), "the consumer's group")
        publish(client, 2)
        assert handling.result(30)["seq"] == 2
    killed.close()
    assert not gaps
    for seq in (3, 4, 5):
        publish(client, seq)
    client.xtrim("media_events", maxlen=1, approximate=False)
    restarted = consumer["read_events"](client, "late", "late-1", lambda: gaps.append(5))
    assert next(restarted)["seq"] == 5
    assert gaps


def test_deletions_are_written_in_entries_that_the_service_reads_and_trimmed_behind_it(
    examples: Path, client: Any, redis_url: str
) -> None:
    folder = examples / "deletions"
    ids = [f"01M88C0SJ305C5J3D3BY{number:06d}" for number in range(10_001)]
    (folder / "ids.txt").write_text("\n".join([*ids, ""]))
    (block,) = blocks(folder / "README.md")
    settings = environment(AVION_MEDIA_REDIS__URL=redis_url)
    follow(block, folder, settings)

    assert trio.run(_take, redis_url, 1) == ids[:10_000]
    follow(block, folder, settings)
    assert trio.run(_take, redis_url, 10) == [ids[-1], *ids]  # nothing was trimmed that had to be read
    follow(block, folder, settings)
    assert client.xlen("drop_deleted") == 3  # the last one that was read, and two new ones


async def _take(redis_url: str, count: int) -> list[str]:
    """Read so many notices as the service does, acknowledge them, and return their ids."""
    async with open_redis(redis_url) as connected:
        stream = NoticeStream(connected)
        await stream.ensure_group()
        notices = await stream.take("reader", block_s=0.1, count=count)
        await stream.done(*notices)
    assert not any(notice.problem for notice in notices)
    return [media_id for notice in notices for media_id in notice.media_ids]
