"""How the console judges the service: the banner, the list and the counts come from one function."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.history import History, QueueSample, Sample
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.servers.console.health import Facts, Tone, assess, queue_state

NOW = 1_795_616_000.0
CALM = QueueStats(consumers=1)


def node(path: str, *children: dict[str, Any], state: str = "running", restarts: int = 0) -> dict[str, Any]:
    return {
        "path": path,
        "name": path.rpartition("/")[2],
        "state": state,
        "restarts": restarts,
        "last_failure": "ValueError('x')" if restarts else None,
        "children": list(children),
    }


def facts(
    *,
    stats: QueueStats = CALM,
    buried: tuple[int, int] = (0, 0),
    down: tuple[str, ...] = (),
    age_s: float = 1.0,
    tree: dict[str, Any] | None = None,
    **report: Any,
) -> Facts:
    """A healthy replica, but for what is given. ``buried``: dead letters ever, three minutes ago and now."""
    history = History()
    for at, total in zip((NOW - 180, NOW - 90, NOW - age_s), (buried[0], buried[0], buried[1]), strict=True):
        history.add(Sample(at, {PROCESSING_QUEUE: QueueSample(stats, 10, total)}))
    healthy = {
        "ready": True,
        "phase": "READY",
        "down": list(down),
        "dependencies": {"redis": "up", "store": "up"},
        "reasons": {},
        "sandbox": None,
        "warnings": [],
        "dangers": [],
        "unreadable": {},
    }
    return Facts(healthy | report, tree or node("avion-media", node("service")), history, NOW)


def test_media_that_wait_for_review_are_named_and_after_a_day_they_are_a_warning() -> None:
    held = ("2026-11-25T13:00:00.000+00:00", "2026-11-25T14:00:00.000+00:00")
    for now, tone in (("2026-11-25T15:00:00+00:00", Tone.INFO), ("2026-11-26T15:00:00+00:00", Tone.WARN)):
        health = assess(replace(facts(), held=held, now=datetime.fromisoformat(now).timestamp()))
        (finding,) = [each for each in health.findings if each.page == "moderation"]
        assert (finding.tone, finding.title) == (tone, "2 media items wait for review")


def late(oldest_age_s: float, consumers: int = 1) -> QueueStats:
    return QueueStats(
        depth=3,
        lag=3,
        pending=0,
        oldest_age_s=oldest_age_s,
        delayed=0,
        next_due=None,
        dead_letters=0,
        consumers=consumers,
    )


def with_dead(dead_letters: int) -> QueueStats:
    return QueueStats(
        depth=0, lag=0, pending=0, oldest_age_s=0, delayed=0, next_due=None, dead_letters=dead_letters, consumers=1
    )


REDIS_DOWN: dict[str, Any] = {"dependencies": {"redis": "unavailable", "store": "up"}, "reasons": {"redis": "refused"}}


@pytest.mark.parametrize(
    ("given", "tone", "title"),
    [
        (facts(), Tone.GOOD, "Healthy"),
        (facts(**REDIS_DOWN), Tone.BAD, "Redis does not respond"),
        (facts(stats=late(121)), Tone.WARN, "Processing queue is 2 min late"),
        (facts(stats=late(601)), Tone.BAD, "Processing queue is 10 min late"),
        (facts(stats=late(1, consumers=0)), Tone.BAD, "Processing queue: no workers"),
        (facts(stats=with_dead(5)), Tone.WARN, "5 dead letters"),
        (facts(stats=with_dead(5), buried=(7, 9)), Tone.WARN, "5 dead letters, 2 of them new this hour"),
        (facts(phase="DRAINING", ready=False), Tone.INFO, "This replica is draining"),
        (facts(phase="DRAINING", ready=False, **REDIS_DOWN), Tone.BAD, "Redis does not respond"),
        (facts(warnings=["Redis keeps nothing"]), Tone.GOOD, "Healthy"),
    ],
)
def test_the_worst_that_is_found_is_the_banner(given: Facts, tone: Tone, title: str) -> None:
    health = assess(given)
    assert (health.tone, health.title) == (tone, title)


def test_of_a_branch_that_is_down_only_the_cause_is_named() -> None:
    broken = node("a", node("a/b", node("a/b/c", state="failed", restarts=3), state="waiting"))
    health = assess(facts(tree=broken, down=("a/b", "a/b/c"), ready=False))
    (finding,) = health.findings
    assert (finding.title, finding.page) == ("a/b/c is failed", "system")
    assert "restarted 3 times. Last failure: ValueError('x')." in finding.text
    assert health.on("system") == [finding]
    assert health.on("queues") == []


@pytest.mark.parametrize(("warnings", "is_promised"), [([], True), (["Redis keeps nothing"], False)])
def test_that_nothing_is_lost_is_promised_only_if_redis_keeps_tasks(warnings: list[str], is_promised: bool) -> None:
    text = assess(facts(warnings=warnings, **REDIS_DOWN)).text
    assert ("No task is lost." in text) is is_promised


@pytest.mark.parametrize("age_s", [1, 60])
def test_while_redis_is_away_figures_are_old_and_not_judged(age_s: float) -> None:
    """A queue is not late then: nobody knows."""
    given = facts(stats=late(500), age_s=age_s, **REDIS_DOWN)
    assert given.is_stale
    assert [each.title for each in assess(given).findings] == ["Redis does not respond"]


def test_a_queue_that_nobody_reads_is_a_fault_only_when_something_is_queued() -> None:
    unread = QueueStats(
        depth=0, lag=0, pending=0, oldest_age_s=0, delayed=0, next_due=None, dead_letters=0, consumers=0
    )
    assert queue_state(PROCESSING_QUEUE, QueueSample(unread, 0, 0)).word == "Unused"
    assert queue_state(PROCESSING_QUEUE, QueueSample(late(1, consumers=0), 0, 0)).word == "No workers"


def test_a_paused_queue_says_so_before_anything_else() -> None:
    paused = replace(late(3600.0, consumers=0), paused_since=NOW - 60)
    state = queue_state(PROCESSING_QUEUE, QueueSample(paused, 10, 0))
    assert (state.tone, state.word) == (Tone.WARN, "Paused")
    assert state.text.startswith("3 tasks wait")
    assert state.text.endswith("If Redis loses its data, the pause is lost, too.")
