"""The random chaos excuses a poisoned task only if each worker that its dead letter names was dead."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from tests.chaos.random_verdict import Report, Verdict
from tests.chaos.random_work import Accepted, Ledger, bodies, remote_id_of
from tests.service.published import key_of

URL = "http://127.0.0.1:9/good"
DIED = [(101, 1000.0), (102, 1030.0), (103, 1035.0)]


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield opened


def verdict_on(client: Any, fields: dict[str, str], media_id: str, died: list[tuple[int, float]]) -> Report:
    """Judge a good file that became poison, where these processes died."""
    crashed = " ".join(f"host-{pid}-0@{at:.0f}" for pid, at in DIED)
    client.xadd("{media_cache_queue}:dlq", {**fields, "error": "poison: 3 workers", "crashed_workers": crashed})
    client.set(key_of("media_status", media_id), "F poison")
    nothing = SimpleNamespace(paginate=lambda Bucket: [])
    world: Any = SimpleNamespace(
        client=client,
        s3=SimpleNamespace(get_paginator=lambda _: nothing),
        replicas=[SimpleNamespace(deaths=died, stops=[], pid=0)],
        attempts=SimpleNamespace(read_text=lambda: ""),
    )
    ledger = Ledger(
        accepted={media_id: Accepted(media_id, "remote", bodies()[0], 990.0)},
        asked={media_id},
        events={media_id: [(1040.0, "media.failed", "poison")]},
    )
    report = Report(seed=0, seconds=0.0)
    Verdict(world, ledger, {bodies()[0].name: {}}, report).give([])
    return report


@pytest.mark.parametrize(("field", "value"), [("remote_url", URL), ("media_id", remote_id_of(URL))])
def test_three_dead_workers_excuse_a_task_whatever_names_its_media_item(client: Any, field: str, value: str) -> None:
    assert verdict_on(client, {field: value}, remote_id_of(URL), DIED).good


def test_a_worker_that_was_alive_excuses_nothing(client: Any) -> None:
    report = verdict_on(client, {"remote_url": URL}, remote_id_of(URL), DIED[:2])
    assert report.lost
    assert any("of these alive: [(103, 1035.0)]" in each for each in report.unexpected), report.unexpected
