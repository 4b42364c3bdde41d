"""Tests of the checker: it reports each promise that is broken on purpose."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.crash import other_work
from tests.crash.lane import Lane, Put, open_lane
from tests.service.harness import eventually
from tests.services import S3Address

NEVER_S = 6.0  # ten leases: a task that has not ended by then never ends
BEFORE_IT_IS_PUBLIC = {"name": "s3:PutObject original/ID/ID.png", "nth": 1}


@pytest.fixture(scope="module")
def lane(ceph_address: S3Address) -> Iterator[Lane]:
    with open_lane(ceph_address) as opened:
        yield opened


@pytest.fixture(autouse=True)
def empty(lane: Lane) -> None:
    lane.kill_all()
    lane.forget_everything()
    lane.checker.seen.clear()


def test_a_late_owner_is_fenced(lane: Lane) -> None:
    assert not two_owners(lane, sabotage="")


def test_without_the_fence_the_checker_is_red(lane: Lane) -> None:
    assert any("dlq" in each for each in two_owners(lane, sabotage="no fence"))


def two_owners(lane: Lane, sabotage: str) -> list[str]:
    """Suspend the first owner until the second has its task; then the first fails, while the second is suspended."""
    media_id = lane.put_picture()
    fault = {"name": "fs:TemporaryFile", "nth": 2, "how": "stopped, then raises"}
    # The first owner's lease is long: when it goes on, it must not reclaim its task from the second. It stays the
    # janitor for a quarter of that.
    first = lane.start(("processing",), fault, sabotage=sabotage, TASKS__MAX_ATTEMPTS="1", TASKS__CLAIM_AFTER="8s")
    eventually(first.stopped, "the first owner to stop")
    second = lane.start(("processing",), BEFORE_IT_IS_PUBLIC | {"how": "stopped"}, sabotage=sabotage)
    eventually(second.stopped, "the second owner to stop")
    calls = len(first.calls())
    first.kill(signal.SIGCONT)
    eventually(lambda: "task.ended" in first.log.read_text(), "the first owner to give up")
    assert len(first.calls()) > calls
    first.kill()
    second.kill(signal.SIGCONT)
    lane.wait(media_id, timeout_s=NEVER_S)
    second.kill()
    return lane.checker.violations([media_id])


def test_an_early_acknowledgement_is_seen(lane: Lane) -> None:
    media_id = lane.put_picture()
    victim = lane.start(
        ("processing",), BEFORE_IT_IS_PUBLIC | {"how": "killed before"}, sabotage="early acknowledgement"
    )
    assert red_after(lane, media_id, lambda: not victim.alive())


def test_a_consumer_removed_with_its_tasks_is_seen(lane: Lane) -> None:
    media_id = lane.put_picture()
    victim = lane.start(("processing",), BEFORE_IT_IS_PUBLIC | {"how": "killed before"})
    sabotage = "consumer removed with its tasks"
    # A long lease: the tasks are not reclaimed before the consumer is looked at.
    assert red_after(
        lane, media_id, lambda: not victim.alive(), sabotage=sabotage, never_s=15.0, TASKS__CLAIM_AFTER="3s"
    )


def test_a_group_that_begins_at_the_end_is_seen(lane: Lane) -> None:
    media_id = lane.put_picture()
    assert red_after(lane, media_id, lambda: True, sabotage="group at the end")


def test_a_skipped_tombstone_is_seen(lane: Lane) -> None:
    media_id = lane.put_deletion()
    process = lane.start(("events", "delete"), sabotage="no tombstone")
    lane.wait(media_id)
    process.kill()
    assert any("its status is not DELETED" in each for each in lane.checker.violations([media_id]))


def test_a_block_without_evidence_is_seen(lane: Lane) -> None:
    media_id = lane.put_block()
    lane.start(("grpc", "http"), sabotage="no evidence")
    assert lane.wait(media_id)
    assert any("evidence" in each for each in lane.checker.violations([media_id]))


@pytest.mark.parametrize(
    ("put", "roles", "sabotage", "seen"),
    [
        (other_work.put_revocation, ("grpc", "http"), "no revocation", "one of them opens it"),
        (other_work.put_blocked_host, ("grpc", "delete", "cache"), "no block of hosts", "its files are fetched"),
        (other_work.put_event, ("webhooks",), "no webhook", "it has not ended"),
    ],
)
def test_other_work_that_is_not_done_is_seen(
    lane: Lane, put: Put, roles: tuple[str, ...], sabotage: str, seen: str
) -> None:
    media_id = put(lane)
    process = lane.start(roles, sabotage=sabotage)
    entry = lane.checker.ledger[media_id]
    if "grpc" in roles:
        eventually(lambda: entry.acknowledged, "the acknowledgement")
    lane.wait(media_id, timeout_s=NEVER_S)
    assert process.alive(), "its sabotage failed"
    assert any(seen in each for each in lane.checker.violations([media_id]))


def red_after(
    lane: Lane,
    media_id: str,
    first: Callable[[], bool],
    *,
    sabotage: str = "",
    never_s: float = NEVER_S,
    **settings: Any,
) -> list[str]:
    """Wait for ``first``, start another process, and return the violations after all the time that it needs."""
    eventually(first, "the first process to die")
    process = lane.start(("processing",), sabotage=sabotage, **settings)
    lane.wait(media_id, timeout_s=never_s)
    assert process.alive(), "its sabotage failed"
    process.kill()
    return lane.checker.violations([media_id])
