"""The status store: compare rules, tombstones, events, one subscription for all watchers."""

from __future__ import annotations

import json
import uuid

import pytest
import trio

from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import SERVICE_FAULTS, Reason
from avion_media.common.formats import MP4
from avion_media.common.media import MediaFacts
from avion_media.common.tasks import EVENTS_STREAM, State, Status
from avion_media.items.deletion import DeletionRecords
from avion_media.items.state import MediaEvents, StatusStore
from avion_media.items.state.status_store import status_channel, status_channels
from tests.integration.backends.queue.conftest import Client
from tests.services import RedisServer

FACTS = MediaFacts(MP4, 123456, 1920, 1080, "LEHV6nWB2yk8", "ab" * 32, animated=False, duration_s=12.5)
READY = Status("m1", State.READY, facts=FACTS, thumbnails={"small": "/thumbnail/small/m1"})
PROCESSING = Status("m1", State.PROCESSING)
FAILED = Status("m1", State.FAILED, reason=Reason.CORRUPT)


@pytest.fixture
def statuses(redis: Redis) -> StatusStore:
    return StatusStore(redis)


@pytest.fixture
def events(redis: Redis) -> MediaEvents:
    return MediaEvents(redis, max_entries=10_000)


@pytest.mark.parametrize(
    "status",
    [
        PROCESSING,
        READY,
        FAILED,
        Status("m1", State.FAILED, reason=Reason.INTERNAL, retryable=True),
        Status("m1", State.PENDING_UPLOAD),
        Status("m1", State.DELETED),
    ],
    ids=lambda status: str(status.state),
)
async def test_what_is_put_can_be_read(statuses: StatusStore, status: Status) -> None:
    assert await statuses.get("m1") is None
    assert await statuses.put(status, ttl_s=60)
    assert await statuses.get("m1") == status


async def test_a_held_media_item_stays_held_until_it_is_released(statuses: StatusStore) -> None:
    held = Status("m1", State.PROCESSING, reason=Reason.HELD)
    await statuses.put(PROCESSING, ttl_s=60)
    assert await statuses.put(held, ttl_s=60)
    assert not await statuses.put(PROCESSING, ttl_s=60)
    assert await statuses.get("m1") == held
    assert await statuses.put(PROCESSING, ttl_s=60, over=Reason.HELD)
    assert await statuses.get("m1") == PROCESSING


async def test_many_are_read_at_once(redis: Redis, statuses: StatusStore) -> None:
    await statuses.put(PROCESSING, ttl_s=60)
    await DeletionRecords(redis).mark(["m2"], delay_s=60)
    assert await statuses.get_many(["m1", "m2", "m3"]) == {
        "m1": PROCESSING,
        "m2": Status("m2", State.DELETED),
        "m3": None,
    }
    assert await statuses.get_many([]) == {}


async def test_a_status_expires(statuses: StatusStore, other: Client) -> None:
    await statuses.put(PROCESSING, ttl_s=60)
    (key,) = other.scan_iter()
    assert 0 < other.pttl(key) <= 60_000


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        (PROCESSING, READY, True),
        (PROCESSING, FAILED, True),
        (FAILED, PROCESSING, False),  # a late word
        (FAILED, READY, True),
        (FAILED, FAILED, True),
        (FAILED, Status("m1", State.FAILED, reason=Reason.MISSING), False),  # by now its upload is gone
        (Status("m1", State.FAILED, reason=Reason.POISON), FAILED, True),  # replayed from the dead letters
        (READY, READY, True),
        (READY, PROCESSING, False),  # a second worker that was late
        (READY, FAILED, False),
    ],
)
async def test_what_is_final_stays_final(statuses: StatusStore, before: Status, after: Status, taken: bool) -> None:
    await statuses.put(before, ttl_s=60)
    assert await statuses.put(after, ttl_s=60) is taken
    assert await statuses.get("m1") == (after if taken else before)


async def test_what_was_forgotten_can_be_anything_again(statuses: StatusStore) -> None:
    await statuses.put(READY, ttl_s=60)
    assert await statuses.forget("m1")
    assert not await statuses.forget("m1")
    assert await statuses.put(PROCESSING, ttl_s=60)


@pytest.mark.parametrize("reason", Reason)
async def test_only_failures_of_ours_are_open_to_another_reason(statuses: StatusStore, reason: Reason) -> None:
    other = Reason.EMPTY if reason is Reason.CORRUPT else Reason.CORRUPT
    await statuses.put(Status("m1", State.FAILED, reason=reason), ttl_s=60)
    assert await statuses.put(Status("m1", State.FAILED, reason=other), ttl_s=60) is (reason in SERVICE_FAULTS)


@pytest.mark.parametrize("status", [PROCESSING, READY, FAILED], ids=lambda status: str(status.state))
async def test_a_deleted_medium_gets_no_status(redis: Redis, statuses: StatusStore, status: Status) -> None:
    await statuses.put(PROCESSING, ttl_s=60)
    (mark,) = await DeletionRecords(redis).mark(["m1"], delay_s=60)
    assert not await statuses.put(status, ttl_s=60)
    assert await statuses.get("m1") == Status("m1", State.DELETED)
    assert await statuses.get_many(["m1", "m2"]) == {"m1": Status("m1", State.DELETED), "m2": None}
    assert await statuses.is_deleted("m1")
    assert not await statuses.is_deleted("m2")
    issued = await DeletionRecords(redis).issue_undelete()
    assert await DeletionRecords(redis).undelete({"m1": mark.generation}, issued)
    assert await statuses.get("m1") == PROCESSING
    assert await statuses.put(status, ttl_s=60)


@pytest.mark.parametrize("written", ["", "nonsense", "[]", "{}", '{"state":"BORED"}', '{"state":"READY","facts":7}'])
async def test_a_status_that_cannot_be_read_is_none(statuses: StatusStore, other: Client, written: str) -> None:
    await statuses.put(PROCESSING, ttl_s=60)
    (key,) = other.scan_iter()
    other.set(key, written)
    assert await statuses.get("m1") is None
    assert await statuses.put(FAILED, ttl_s=60)


async def test_events_go_to_stream_and_channel(events: MediaEvents, other: Client) -> None:
    with other.pubsub() as listener:
        listener.subscribe(EVENTS_STREAM)
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        await events.publish("media.ready", "m1", {"content_type": "image/png", "type": "no"})
        heard = listener.get_message(timeout=5)
    ((_, fields),) = other.xrange(EVENTS_STREAM)
    event = json.loads(fields["event"])
    assert uuid.UUID(event.pop("event_id"))
    assert event == {"seq": 1, "type": "media.ready", "media_id": "m1", "content_type": "image/png"}
    assert fields["event"] == heard["data"]


async def test_an_event_is_told_once_and_none_after_the_deletion(events: MediaEvents, other: Client) -> None:
    told = [
        await events.publish("media.failed", "m1", {}),
        await events.publish("media.failed", "m1", {}),
        await events.publish("media.ready", "m1", {}),
        await events.publish("remote.failed", "r1", {}, dedup_key="task 1"),
        await events.publish("remote.ready", "r1", {}, dedup_key="task 1"),
        await events.publish("remote.ready", "r1", {}, dedup_key="task 2"),
        await events.publish("media.deleted", "r1", {}),
        await events.publish("media.deleted", "r1", {}),
        await events.publish("remote.ready", "r1", {}, dedup_key="task 3"),
    ]
    assert told == [True, False, True, True, False, True, True, False, False]
    assert await events.was_published("r1", "task 2")
    assert not await events.was_published("r1", "task 3")
    written = [json.loads(fields["event"]) for _, fields in other.xrange(EVENTS_STREAM)]
    assert [event["seq"] for event in written] == [*range(1, sum(told) + 1)]
    assert len({event["event_id"] for event in written}) == sum(told)


async def test_an_event_that_is_published_again_has_the_same_id(events: MediaEvents, other: Client) -> None:
    for _ in range(2):
        assert await events.publish("media.ready", "m1", {})
        for key in other.scan_iter("{media_events}:said:*"):
            other.delete(key)  # as if it had expired
    first, second = [json.loads(fields["event"]) for _, fields in other.xrange(EVENTS_STREAM)]
    assert first["event_id"] == second["event_id"]
    assert (first["seq"], second["seq"]) == (1, 2)


async def test_the_headroom_is_that_of_the_slowest_group(events: MediaEvents, other: Client) -> None:
    assert await events.headroom() == 10_000
    for name in ("quick", "slow"):
        other.xgroup_create(EVENTS_STREAM, name, "0", mkstream=True)
    for number in range(7):
        await events.publish("media.ready", f"m{number}", {})
    other.xreadgroup("quick", "c", {EVENTS_STREAM: ">"}, count=5)
    other.xreadgroup("slow", "c", {EVENTS_STREAM: ">"}, count=1)
    assert await events.headroom() == 10_000 - 6


async def test_a_group_that_has_read_nothing_since_it_was_created_at_the_end_counts(
    events: MediaEvents, other: Client
) -> None:
    for number in range(3):
        await events.publish("media.ready", f"m{number}", {})
    other.xgroup_create(EVENTS_STREAM, "new", "$")
    assert await events.headroom() == 10_000
    for number in range(3, 7):
        await events.publish("media.ready", f"m{number}", {})
    assert await events.headroom() == 10_000 - 4
    other.xreadgroup("new", "c", {EVENTS_STREAM: ">"}, count=1)
    assert await events.headroom() == 10_000 - 3
    other.xgroup_create(EVENTS_STREAM, "newest", "$")
    other.xadd(EVENTS_STREAM, {"event": "{}"})  # of another program
    assert await events.headroom() == 10_000 - 8


async def test_the_events_stream_is_trimmed(events: MediaEvents, other: Client) -> None:
    with other.pipeline(transaction=False) as pipeline:
        for _ in range(12_000):
            pipeline.xadd(EVENTS_STREAM, {"event": "{}"})
        pipeline.execute()
    await events.publish("media.ready", "m1", {})
    assert 10_000 <= other.xlen(EVENTS_STREAM) < 10_200


class Ears:
    """Watches media items, and collects which of them may have changed."""

    def __init__(self, *media_ids: str) -> None:
        self.heard: list[str] = []
        self.channels = status_channels(self._changed)
        self._something = trio.Event()
        for each in media_ids:
            self.channels.add(status_channel(each))

    def _changed(self, media_id: str) -> None:
        self.heard.append(media_id)
        self._something.set()

    async def until(self, heard: int) -> None:
        with trio.fail_after(10):
            while len(self.heard) < heard:
                await self._something.wait()
                self._something = trio.Event()


async def test_every_change_is_heard_once(redis: Redis, statuses: StatusStore) -> None:
    ears, records = Ears("m1", "m2", "end"), DeletionRecords(redis)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(redis.state.keep_listening, ears.channels)
        await ears.until(3)  # once for each subscription
        ears.heard.clear()
        await statuses.put(PROCESSING, ttl_s=60)
        await statuses.put(READY, ttl_s=60)
        await statuses.put(FAILED, ttl_s=60)  # refused: nothing changed
        mark, _ = sorted(await records.mark(["m1", "m2"], delay_s=60), key=lambda each: each.media_id)
        await records.mark(["m1"], delay_s=60)  # known already
        await records.undelete({"m1": mark.generation}, await records.issue_undelete())
        await statuses.forget("m1")
        await statuses.forget("m1")
        await statuses.put(Status("not watched", State.PROCESSING), ttl_s=60)
        await statuses.put(Status("end", State.PROCESSING), ttl_s=60)
        await ears.until(7)
        nursery.cancel_scope.cancel()
    assert sorted(ears.heard) == ["end", *["m1"] * 5, "m2"]  # nodes of a cluster keep no order among them


async def test_changes_are_heard_across_processes_and_after_an_outage(server: RedisServer) -> None:
    ears = Ears(READY.media_id)
    async with (
        open_redis(server.url, timeout_s=2) as mine,
        open_redis(server.url, timeout_s=2) as theirs,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(mine.state.keep_listening, ears.channels)
        await ears.until(1)
        await StatusStore(theirs).put(READY, ttl_s=60)
        await ears.until(2)
        server.kill()
        server.start()
        await ears.until(3)
        async with open_redis(server.url) as again:
            await StatusStore(again).put(READY, ttl_s=60)
        await ears.until(4)
        nursery.cancel_scope.cancel()
