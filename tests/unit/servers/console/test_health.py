"""How the console judges the service: the banner, the list and the counts come from one function."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.history import History, QueueSample, Sample
from avion_media.backends.redis import Redis
from avion_media.common.concurrency import Shared
from avion_media.common.credentials import Role
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.operations.dead_letters import Cause
from avion_media.process.replicas import Replica
from avion_media.process.runtime import FleetStatistics, Observed
from avion_media.servers.console.drawing import About, View, Viewer, draw_region
from avion_media.servers.console.health import Facts, Tone, assess, queue_state
from avion_media.servers.console.prometheus import PrometheusCharts

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


async def no_causes() -> tuple[list[Cause], int]:
    return [], 0


@pytest.mark.parametrize(("age_s", "word"), [(1.0, "Running"), (60.0, "Unknown")])
async def test_a_page_shows_the_last_figures_while_redis_does_not_respond(age_s: float, word: str) -> None:
    viewer = Viewer("", "", "ada", Role.VIEWER, may_upload=False, may_log_out=False)
    away = Redis("redis://127.0.0.1:1/0")  # nobody opens it
    known, causes = facts(stats=replace(CALM, lag=4711), age_s=age_s), Shared(no_causes, 1.0)
    about = About("1", "media-1", "", "media-1-x")
    view = View("queues", viewer, about, known, away, "", {}, {}, causes, PrometheusCharts(""))
    html = await draw_region("queues", view)
    assert "4,711" in html
    assert f">{word}<" in html


def test_replicas_are_ready_or_say_why_not_and_the_banner_counts_them() -> None:
    def replica(name: str, phase: str, age_s: float) -> Replica:
        return Replica(name, name, "1", (), phase, phase == "READY", NOW - 900, NOW - age_s)

    all_of = [replica("a", "READY", 1), replica("b", "LAME_DUCK", 1), replica("c", "READY", 31)]
    judged = replace(facts(), replicas=all_of)
    assert [judged.state_of(each) for each in all_of] == [("good", "ready"), ("warn", "lame duck"), ("bad", "silent")]
    health = assess(judged)
    assert health.title == "1 replica is silent"
    assert health.text.startswith("Without a report: c for 30 s. It was killed, or it hangs.")
    assert assess(replace(judged, replicas=all_of[:2])).text.startswith("1 of 2 replicas ready. ")
    many = assess(replace(judged, replicas=[replica(name, "READY", 31) for name in "cdefg"]))
    assert "c for 30 s, d for 30 s, e for 30 s and 2 more. It was killed" in many.text


def test_without_redis_no_replica_is_called_silent_because_none_can_report() -> None:
    replica = Replica("c", "c", "1", (), "READY", True, NOW - 900, NOW - 31)
    away = facts(age_s=31, down=("redis",), dependencies={"redis": "down", "store": "up"}, reasons={"redis": "refused"})
    judged = replace(away, replicas=[replica])
    assert judged.state_of(replica) == ("off", "unknown")
    assert [each.title for each in assess(judged).findings] == ["Redis does not respond"]


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
    assert queue_state(facts(stats=unread), PROCESSING_QUEUE).word == "Unused"
    assert queue_state(facts(stats=late(1, consumers=0)), PROCESSING_QUEUE).word == "No workers"


def test_a_paused_queue_says_so_before_anything_else() -> None:
    paused = replace(late(3600.0, consumers=0), paused_since=NOW - 60, paused_by="ada", paused_note="CDN maintenance")
    state = queue_state(facts(stats=paused), PROCESSING_QUEUE)
    assert (state.tone, state.word) == (Tone.WARN, "Paused")
    assert state.text == (
        "Paused by ada 1 min ago: “CDN maintenance”. 3 tasks waiting. It resumes when an operator resumes it."
        " If Redis loses its data, the pause is lost, too."
    )
    ends = queue_state(facts(stats=replace(paused, paused_until=NOW + 600)), PROCESSING_QUEUE)
    assert "It resumes at 25 Nov 2026, 14:23:20 UTC by itself." in ends.text


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "Its workers take no task"),
        ({"pending": 8, "slots": 8}, "All 8 slots are in use"),
        (
            {"pending": 8, "slots": 8, "lag": 420, "oldest_tenant": "image/alice", "of_oldest_tenant": 420},
            "All 8 slots are in use: more replicas, or tasks that end faster, would help. 420 of 420 waiting tasks"
            " belong to image/alice. Others go first.",
        ),
        (
            {
                "pending": 4,
                "slots": 8,
                "lag": 1284,
                "tenant_cap": 4,
                "oldest_tenant": "a:443",
                "of_oldest_tenant": 1102,
            },
            "1,102 of 1,284 waiting tasks belong to a:443, of which at most 4 run at once. Others go first.",
        ),
        ({"pending": 4, "slots": 8}, "4 of 8 slots are in use"),
    ],
)
def test_a_late_queue_says_why_and_what_people_notice(more: dict[str, Any], why: str) -> None:
    state = queue_state(facts(stats=replace(late(300.0), **more)), PROCESSING_QUEUE)
    assert state.word == "Late"
    assert state.text.startswith(why)
    assert state.text.endswith("Uploads stay in PROCESSING for that long. Nothing is lost.")


@pytest.mark.parametrize("report", [REDIS_DOWN, {}])
def test_after_five_seconds_without_figures_a_queue_is_unknown_and_not_running(report: dict[str, Any]) -> None:
    assert queue_state(facts(age_s=4.9), PROCESSING_QUEUE).word == "Running"
    old = facts(age_s=5.1, **report)
    state = queue_state(old, PROCESSING_QUEUE)
    assert (state.word, state.text) == ("Unknown", "Redis does not respond. These figures are 5 s old.")
    health = assess(old)
    assert health.tone >= Tone.WARN
    assert health.title == ("Redis does not respond" if report else "The figures of the queues are 5 s old")


def test_in_a_large_fleet_figures_are_read_more_rarely_and_called_old_later() -> None:
    def sampling_s(replicas: int) -> float:
        return Observed(fleet=FleetStatistics(NOW, replicas=replicas)).sampling_s

    assert [sampling_s(each) for each in (1, 16, 32, 300)] == [4.0, 4.0, 8.0, 15.0]
    young, old = (replace(facts(age_s=age_s), sampling_s=15.0) for age_s in (15.5, 16.5))
    assert (young.is_stale, old.is_stale) == (False, True)
