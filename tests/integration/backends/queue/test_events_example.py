"""`read_events` of `examples/events`, as consumers copy it: it repeats what was not handled, and reports gaps."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from avion_media.common.tasks import EVENTS_STREAM
from avion_media.items.state import MediaEvents
from tests.integration.backends.queue.conftest import Client

EXAMPLE = Path(__file__).parents[4] / "examples" / "events" / "consumer.py"


@pytest.fixture
def read_events() -> Callable[..., Any]:
    found: Callable[..., Any] = runpy.run_path(str(EXAMPLE))["read_events"]
    return found


@pytest.fixture
def events(redis: Any) -> MediaEvents:
    return MediaEvents(redis)


async def publish(events: MediaEvents, *media_ids: str) -> None:
    for media_id in media_ids:
        assert await events.publish("media.ready", media_id, {})


async def test_no_event_is_lost_and_gaps_are_reported(
    read_events: Callable[..., Any], events: MediaEvents, other: Client
) -> None:
    gaps: list[str] = []

    def read(count: int) -> list[str]:
        reader = read_events(other, "posts", "c1", lambda: gaps.append("gap"))
        return [event["media_id"] for event in islice(reader, count)]

    other.xgroup_create(EVENTS_STREAM, "posts", "0", mkstream=True)
    await publish(events, "m1", "m2")
    assert read(2) == ["m1", "m2"]  # left while the second one is not acknowledged
    await publish(events, "m3")
    assert read(2) == ["m2", "m3"]
    assert gaps == []
    await publish(events, "m4", "m5", "m6")
    other.xtrim(EVENTS_STREAM, maxlen=1, approximate=False)
    assert read(1) == ["m6"]
    assert gaps == ["gap"]
    other.delete(EVENTS_STREAM, "{media_events}:seq")  # Redis lost its data
    await publish(events, "m7")
    assert read(1) == ["m7"]
    assert gaps == ["gap", "gap"]


async def test_a_group_that_is_lost_under_the_reader_is_a_gap(
    read_events: Callable[..., Any], events: MediaEvents, other: Client
) -> None:
    gaps: list[str] = []
    reader = read_events(other, "posts", "c1", lambda: gaps.append("gap"))
    other.xgroup_create(EVENTS_STREAM, "posts", "0", mkstream=True)
    await publish(events, "m1", "m2")
    assert next(reader)["media_id"] == "m1"
    other.xgroup_destroy(EVENTS_STREAM, "posts")
    await publish(events, "m3")
    assert [event["media_id"] for event in islice(reader, 2)] == ["m2", "m3"]
    assert gaps == ["gap"]
