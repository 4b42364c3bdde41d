"""What goes when the remote cache is over its budget, and how fast a pass may go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio
import trio.testing

from avion_media.backends.store import ListedObject
from avion_media.common.concurrency import RateLimiter
from avion_media.workers.sweep.policy import Budget, KnownState, Medium, SweepReason

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def remote(name: str, age_days: int, size_bytes: int = 10) -> Medium:
    at = NOW - timedelta(days=age_days)
    return Medium(
        name,
        None,
        ListedObject(f"cached_remote/{name}", size_bytes - 1, "etag", at),
        (ListedObject(f"thumbnail/small/remote/{name}.jpg", 1, "etag", at),),
    )


def to_delete(budget: Budget, media: list[Medium]) -> list[str]:
    for each in media:
        budget.add(each)
    assert all(decision.reason is SweepReason.OVER_BUDGET for decision in budget.decisions())
    return [decision.medium.name for decision in budget.decisions()]


MEDIA = [remote("a", 2), remote("b", 5), remote("c", 1), remote("d", 4), remote("e", 3)]


def test_the_oldest_go_until_the_rest_fits() -> None:
    assert to_delete(Budget(50), MEDIA) == []
    assert to_delete(Budget(49), MEDIA) == ["b"]
    assert to_delete(Budget(25), MEDIA) == ["b", "d", "e"]
    assert to_delete(Budget(1), MEDIA) == ["b", "d", "e", "a", "c"]


def test_no_budget_is_no_bound() -> None:
    assert to_delete(Budget(0), MEDIA) == []


def test_memory_is_bounded_and_the_rest_is_the_next_pass_s() -> None:
    assert to_delete(Budget(1, max_candidates=2), MEDIA) == ["b", "d"]
    assert to_delete(Budget(1, max_candidates=2), MEDIA[::-1]) == ["b", "d"]


def test_thumbnails_count_and_go_with_their_original() -> None:
    budget = Budget(5)
    budget.add(remote("a", 1))
    (decision,) = budget.decisions()
    assert decision.size_bytes == 10


def test_what_may_not_be_removed_counts_all_the_same() -> None:
    budget = Budget(45)
    budget.add(remote("oldest", 9), KnownState(has_task=True))
    assert to_delete(budget, MEDIA) == ["b", "d"]


def test_what_was_asked_for_lately_is_not_old() -> None:
    budget = Budget(39)
    for each in MEDIA:
        budget.add(each, KnownState(last_use=NOW - timedelta(hours=1) if each.name in ("b", "d") else None))
    assert [decision.medium.name for decision in budget.decisions()] == ["e", "a"]


async def test_the_pace_is_even_and_saves_nothing_up(autojump_clock: trio.testing.MockClock) -> None:
    limiter = RateLimiter(4.0)
    started = trio.current_time()
    for _ in range(5):
        await limiter.acquire()
    assert trio.current_time() - started == 1.0
    await trio.sleep(100)
    resumed = trio.current_time()
    for _ in range(3):
        await limiter.acquire()
    assert trio.current_time() - resumed == 0.5


async def test_callers_at_once_share_the_pace(autojump_clock: trio.testing.MockClock) -> None:
    limiter = RateLimiter(10.0)
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(11):
            nursery.start_soon(limiter.acquire)
    assert round(trio.current_time() - started, 6) == 1.0
