"""The log of an outage: its start at once, reminders, its end; and a bound on how much one dependency can log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from trio_telemetry import OutageLog

Line = dict[str, Any]


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def told(lines: list[Any]) -> list[tuple[str, str, object]]:
    return [(line["event"], line["log_level"], line.get("for_s", line.get("after_s"))) for line in lines]


async def test_an_outage_is_logged_at_once_then_every_minute_and_its_end(
    autojump_clock: trio.testing.MockClock, logged: list[Any]
) -> None:
    log = OutageLog("redis", "foundation/redis")
    log.available()
    for _ in range(130):
        log.unavailable("no answer in time")
        await trio.sleep(1.0)
    log.available()
    log.available()
    assert told(logged) == [
        ("redis.unavailable", "warning", 0),
        ("redis.unavailable", "warning", 60),
        ("redis.unavailable", "warning", 120),
        ("redis.recovered", "info", 130),
    ]
    assert {line["path"] for line in logged} == {"foundation/redis"}
    assert not logged[0]["never_answered"]


async def test_a_new_reason_is_logged_but_no_more_than_every_ten_seconds(
    autojump_clock: trio.testing.MockClock, logged: list[Any]
) -> None:
    log = OutageLog("store", "foundation/store")
    for second in range(30):
        log.unavailable(f"reason {second}")
        await trio.sleep(1.0)
    assert [line["detail"] for line in logged] == ["reason 0", "reason 10", "reason 20"]
    assert all(line["never_answered"] for line in logged)


async def test_a_dependency_that_comes_and_goes_logs_pairs_and_only_some(
    autojump_clock: trio.testing.MockClock, logged: list[Any]
) -> None:
    log = OutageLog("store", "foundation/store")
    for _ in range(20):
        log.unavailable("reset")
        await trio.sleep(0.5)
        log.available()
        await trio.sleep(0.5)
    assert [line["event"] for line in logged] == ["store.unavailable", "store.recovered"] * 2


async def test_a_second_outage_that_lasts_is_logged_although_it_began_too_early(
    autojump_clock: trio.testing.MockClock, logged: list[Any]
) -> None:
    log = OutageLog("store", "foundation/store")
    log.unavailable("reset")
    log.available()
    for _ in range(11):
        log.unavailable("reset")
        await trio.sleep(1.0)
    assert told(logged)[2:] == [("store.unavailable", "warning", 10)]
