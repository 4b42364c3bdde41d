"""Claims of moderators, and decisions that do not apply yet, on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from avion_media.backends.redis import Redis, open_redis
from avion_media.items.moderation import desk as module
from avion_media.items.moderation.desk import CLAIM_S, UNDO_S, Desk, Moderator

ADA, INES = Moderator("ada", "browser of ada"), Moderator("ines", "browser of ines")


class Clock:
    """The shared time, which only the test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "now_s", clock)
    return clock


@pytest.fixture
async def desk(redis_of_process: str, clock: Clock) -> AsyncIterator[Desk]:
    async with open_redis(redis_of_process) as redis:
        await redis.execute("DEL", "media_review_claims")
        yield Desk(redis)


async def test_one_moderator_has_an_item_until_the_claim_is_over(desk: Desk, clock: Clock) -> None:
    assert await desk.claim("m", ADA)
    assert await desk.claim("m", INES) is None
    assert not await desk.decide("m", INES, "release", "")
    assert set(await desk.claims()) == {"m"}
    clock.now += CLAIM_S
    assert await desk.claims() == {}
    assert not await desk.decide("m", ADA, "release", "")  # too late: somebody else may have it
    assert await desk.claim("m", INES)
    await desk.give_back("m", ADA)  # changes nothing
    assert await desk.claim("m", ADA) is None
    await desk.give_back("m", INES)
    assert await desk.claim("m", ADA)


async def test_a_decision_can_be_taken_back_until_it_is_carried_out(desk: Desk, clock: Clock) -> None:
    await desk.claim("m", ADA)
    assert await desk.decide("m", ADA, "refuse", "a note")
    assert not await desk.decide("m", ADA, "release", "")
    assert await desk.claim("m", INES) is None
    assert await desk.take_due() is None
    assert not await desk.take_back("m", INES)
    assert await desk.take_back("m", ADA)
    assert await desk.decide("m", ADA, "release", "another")
    clock.now += UNDO_S
    taken = await desk.take_due()
    assert taken is not None
    assert (taken[0], taken[1].decision, taken[1].note, taken[1].who) == ("m", "release", "another", "ada")
    assert not await desk.take_back("m", ADA)
    await desk.finish(*taken)
    assert await desk.claims() == {}


async def test_another_process_carries_out_what_one_left(desk: Desk, clock: Clock) -> None:
    await desk.claim("m", ADA)
    await desk.decide("m", ADA, "release", "")
    clock.now += CLAIM_S  # a decision outlives the claim
    first = await desk.take_due()
    assert first is not None
    assert await desk.take_due() is None
    clock.now += module._CARRY_OUT_S
    second = await desk.take_due()
    assert second is not None
    await desk.finish(*first)  # of the process that was too slow: the other has it
    assert set(await desk.claims()) == {"m"}
    await desk.finish(*second)
    assert await desk.claims() == {}


async def test_a_claim_that_cannot_be_read_is_no_claim(desk: Desk, redis_of_process: str) -> None:
    async with open_redis(redis_of_process) as redis:
        await _write(redis, "m", b"{")
    assert await desk.claims() == {}


async def _write(redis: Redis, media_id: str, claim: bytes) -> None:
    await redis.execute("HSET", "media_review_claims", media_id, claim)
