"""Rounds of moderators: what becomes of it when somebody else was faster, on a real Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from avion_media.backends.redis import Redis, open_redis
from avion_media.items.moderation import desk
from avion_media.items.moderation.desk import UNDO_S, Moderator
from avion_media.items.moderation.records import Held
from avion_media.operations import review as module
from avion_media.operations.operation import Order, Outcome, Refused
from avion_media.operations.review import Review

Waiting = Callable[[], Awaitable[list[Held]]]
Record = Callable[[str], Awaitable[Held]]
ADA = Moderator("ada", "browser of ada")
WAITING = [
    Held(each, f"2026-11-20T08:00:0{each}", "hook", "media_processing_queue", {"owner": "gina"}) for each in "12"
]


class TooLate:
    """Operations in which somebody else is always faster."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def carry_out(self, name: str, order: Order) -> Outcome:
        self.asked.append((name, order.targets[0]))
        return Outcome(problems={order.targets[0]: Refused("it does not wait for a moderator")})


async def waiting() -> list[Held]:
    return WAITING


def review_of(redis: Redis, waiting: Waiting, operations: TooLate, record: Record | None = None) -> Review:
    """Return the rounds about what waits. ``record`` reads one item for a decision that needs it."""
    moderation = SimpleNamespace(reviews=SimpleNamespace(waiting=waiting), records=SimpleNamespace(held=record))
    return Review(cast("Any", SimpleNamespace(redis=redis, moderation=moderation)), cast("Any", operations))


async def test_a_decision_that_changed_nothing_is_reported_and_does_not_count(
    redis_of_process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, operations = [1_000_000.0], TooLate()
    for each in (desk, module):
        monkeypatch.setattr(each, "now_s", lambda: now[0])
    async with open_redis(redis_of_process) as redis:
        review = review_of(redis, waiting, operations)
        await review.start(ADA)
        turn = await review.turn(ADA)
        assert turn is not None
        assert (turn.waiting, [held.media_id for held, _ in turn.claimed]) == (WAITING, ["1", "2"])
        assert await review.decide(ADA, "1", "release", "")
        now[0] += UNDO_S
        assert await review.carry_out_due() == 1
        turn = await review.turn(ADA)
        assert turn is not None
        assert operations.asked == [("release", "1")]
        assert (turn.round.decided, turn.round.lost, turn.round.last, turn.round.decision) == (0, "1", "", "")
        assert await review.decide(ADA, "2", "release", "", seen="")  # on a page that was loaded before
        turn = await review.turn(ADA)
        assert turn is not None
        assert (turn.round.lost, turn.round.last) == ("1", "2")
        await review.skip(ADA, "1", seen="1")
        turn = await review.turn(ADA)
        assert turn is not None
        assert turn.round.lost == ""
        now[0] += UNDO_S
        assert await review.carry_out_due() == 1
        await review.stop(ADA)


async def test_what_somebody_else_has_decided_in_the_list_is_reported_at_once(redis_of_process: str) -> None:
    held = list(WAITING)

    async def still_waiting() -> list[Held]:
        return held

    async with open_redis(redis_of_process) as redis:
        review = review_of(redis, still_waiting, TooLate())
        await review.start(ADA)
        assert await review.turn(ADA) is not None
        del held[0]
        assert not await review.decide(ADA, "1", "release", "")
        turn = await review.turn(ADA)
        assert turn is not None
        assert (turn.round.decided, turn.round.lost, turn.round.last) == (0, "1", "")
        await review.stop(ADA)


async def test_nothing_is_done_if_the_host_cannot_be_blocked(
    redis_of_process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, operations = [1_000_000.0], TooLate()
    for each in (desk, module):
        monkeypatch.setattr(each, "now_s", lambda: now[0])
    remote = replace(WAITING[0], fields={"remote_url": "https://localhost/a.jpg"})

    async def still_waiting() -> list[Held]:
        return [remote]

    async def record(_media_id: str) -> Held:
        return remote

    async with open_redis(redis_of_process) as redis:
        review = review_of(redis, still_waiting, operations, record)
        await review.start(ADA)
        assert await review.turn(ADA) is not None
        assert await review.decide(ADA, "1", "refuse_host", "")
        now[0] += UNDO_S
        assert await review.carry_out_due() == 1
        turn = await review.turn(ADA)
        assert turn is not None
        assert operations.asked == [("block_host", "localhost")]
        assert (turn.round.decided, turn.round.hosts, turn.round.lost) == (0, 0, "1")
        assert [each.media_id for each, _ in turn.claimed] == ["1"]
        await review.stop(ADA)


async def test_only_those_count_as_skipped_that_can_still_be_reviewed(redis_of_process: str) -> None:
    held = list(WAITING)

    async def still_waiting() -> list[Held]:
        return held

    async with open_redis(redis_of_process) as redis:
        review = review_of(redis, still_waiting, TooLate())

        async def skipped() -> list[str]:
            turn = await review.turn(ADA)
            assert turn is not None
            assert turn.claimed == []
            return list(turn.round.skipped)

        await review.start(ADA)
        for each in held:
            await review.skip(ADA, each.media_id)
        assert await skipped() == ["1", "2"]
        bob = Moderator("bob", "browser of bob")
        await review.desk.claim("1", bob)
        assert await skipped() == ["2"]
        del held[1]  # somebody else has blocked it
        assert await skipped() == []
        await review.desk.give_back("1", bob)
        assert await skipped() == ["1"]
        await review.stop(ADA)
