"""Who has a turn: owners, servers and videos share the slots, whatever any of them has queued."""

from __future__ import annotations

from collections import Counter

import pytest

from avion_media.backends.queue import Lease, QueueKeys, TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.formats import JPEG, MP4, MediaFormat
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import CACHE_QUEUE, PROCESSING_QUEUE, processing_fields
from tests.integration.backends.queue.conftest import Client

KEYS = QueueKeys(PROCESSING_QUEUE)
DRAINED = 8e15  # in _dispatch.lua


def fields(owner: str = "", fmt: MediaFormat = JPEG) -> dict[str, str]:
    return processing_fields(str(new_media_id(fmt, 1_700_000_000_000)), owner)


async def take(queue: TaskQueue) -> Lease | None:
    return await queue.take("a", block_s=0)


async def taken(queue: TaskQueue) -> Lease:
    lease = await take(queue)
    assert lease is not None
    return lease


async def owners(queue: TaskQueue, count: int) -> list[str]:
    """Whose tasks are done next."""
    found = []
    for _ in range(count):
        lease = await taken(queue)
        found.append(lease.task.fields.get("owner", ""))
        await lease.complete()
    return found


async def test_another_owner_is_behind_the_runway_and_no_further(queue: TaskQueue) -> None:
    for _ in range(60):
        await queue.enqueue(fields("many"))
    await queue.enqueue(fields("one"))
    assert (await owners(queue, 10)).index("one") <= 9
    stats = await queue.stats()
    assert (stats.depth, stats.tenants) == (51, 1)


async def test_owners_take_turns_and_one_that_comes_task_by_task_gets_no_more_than_its_share(queue: TaskQueue) -> None:
    for _ in range(40):
        await queue.enqueue(fields("many"))
    done: list[str] = []
    for _ in range(30):
        await queue.enqueue(fields("steady"))
        done += await owners(queue, 1)
    assert Counter(done[10:]) == pytest.approx({"many": 10, "steady": 10}, abs=1)


async def test_one_that_adds_a_task_whenever_none_waits_gets_no_more_than_its_share(
    queue: TaskQueue, other: Client
) -> None:
    for _ in range(40):
        await queue.enqueue(fields("many"))
    done: list[str] = []
    for _ in range(40):
        if not other.zlexcount(KEYS.waiting, "[image/steady\0", "(image/steady\1"):
            await queue.enqueue(fields("steady"))
        done += await owners(queue, 1)
    assert Counter(done[10:]) == pytest.approx({"many": 15, "steady": 15}, abs=1)


async def test_a_tenant_whose_tasks_are_done_delays_none(queue: TaskQueue, other: Client) -> None:
    for number in range(20):
        await queue.enqueue(fields(f"once{number}"))
    await owners(queue, 5)
    drained = other.zcount(KEYS.tenants, DRAINED, "(9e15")
    assert (drained, (await queue.stats()).tenants) == (5, 7)
    other.zadd(KEYS.tenants, {f"image/before{number}": DRAINED + 1 for number in range(5_000)})
    await queue.enqueue(fields("new"))
    assert "new" in await owners(queue, 16)
    assert await take(queue) is None
    assert other.zrange(KEYS.tenants, 0, -1) == [""]  # forgotten at once


async def test_the_janitor_forgets_tenants_whose_turn_came(redis: Redis, other: Client) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    await queue.pause()
    await queue.enqueue(fields("waits"))
    other.hset(KEYS.state, "turn", 5)
    other.zadd(KEYS.tenants, {f"image/before{number}": DRAINED + 5 for number in range(1_500)})
    other.zadd(KEYS.tenants, {"image/owes": DRAINED + 6})
    for left in (500, 0, 0):
        await queue.settle(tenant_cap=0, slots=4, idle_s=60)
        assert other.zcount(KEYS.tenants, DRAINED, DRAINED + 5) == left
    assert other.zscore(KEYS.tenants, "image/owes") == DRAINED + 6
    await queue.enqueue(fields("owes"))
    assert other.zscore(KEYS.tenants, "image/owes") == 6


async def test_the_tenant_that_waits_longest_is_named_beside_older_tasks_of_its_own_that_are_next(redis: Redis) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    for _ in range(20):
        await queue.enqueue(fields("alice"))
    await queue.enqueue(fields("bob"))
    stats = await queue.stats()
    assert (stats.oldest_tenant, stats.of_oldest_tenant, stats.lag) == ("image/alice", 12, 21)


async def test_a_pause_names_its_operator_and_the_janitor_ends_it_at_its_time(redis: Redis, other: Client) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    await queue.pause("ada", "CDN maintenance", 3600.0)
    await queue.enqueue(fields("waits"))
    await queue.settle(tenant_cap=2, slots=4, idle_s=60)
    stats = await queue.stats()
    assert (stats.paused_by, stats.paused_note) == ("ada", "CDN maintenance")
    assert stats.paused_until == pytest.approx(stats.paused_since + 3600, abs=0.01)
    assert (stats.oldest_tenant, stats.of_oldest_tenant, stats.tenant_cap) == ("image/waits", 1, 2)
    other.hset(KEYS.state, "paused_until", f"{stats.paused_since:.3f}")
    await queue.settle(tenant_cap=2, slots=4, idle_s=60)
    stats = await queue.stats()
    assert (stats.paused_since, stats.paused_by, stats.paused_note, stats.paused_until) == (0.0, "", "", 0.0)
    assert not other.exists(KEYS.paused)
    assert (await taken(queue)).task.fields["owner"] == "waits"


async def test_tenants_whose_tasks_somebody_removed_hold_up_none_for_long(queue: TaskQueue, other: Client) -> None:
    other.zadd(KEYS.tenants, {f"image/a{number}": 0 for number in range(250)})
    await queue.enqueue(fields("waits"))
    for _ in range(3):
        await queue.settle(tenant_cap=0, slots=4, idle_s=60)
    assert (await taken(queue)).task.fields["owner"] == "waits"


async def test_a_task_without_owner_goes_on_the_account_of_its_caller(queue: TaskQueue) -> None:
    for _ in range(30):
        await queue.enqueue(fields(), tenant="gateway")
    wanted = await queue.enqueue(fields(), tenant="another")
    for _ in range(10):
        lease = await taken(queue)
        await lease.complete()
        if lease.task.task_id == wanted:
            break
    assert lease.task.task_id == wanted


async def test_tasks_of_one_owner_keep_their_order(queue: TaskQueue) -> None:
    ids = [await queue.enqueue(fields("one")) for _ in range(30)]
    for expected in ids:
        lease = await taken(queue)
        assert lease.task.task_id == expected
        await lease.complete()


async def test_images_do_not_wait_behind_videos(queue: TaskQueue) -> None:
    await queue.settle(tenant_cap=0, slots=4, idle_s=60)  # nobody reads yet: one video at a time
    await queue.ensure_group()
    await queue.send_heartbeat("a")
    await queue.settle(tenant_cap=0, slots=4, idle_s=60)  # half of the slots of one consumer
    for _ in range(20):
        await queue.enqueue(fields("filmmaker", MP4))
    videos = [await taken(queue), await taken(queue)]
    assert await take(queue) is None
    for _ in range(3):
        await queue.enqueue(fields("filmmaker"))
    assert [lease.task.fields["media_id"][10] for lease in [await taken(queue), await taken(queue)]] == ["0", "0"]
    await videos[0].complete()
    await taken(queue)  # the third image
    await taken(queue)  # and a video again
    assert await take(queue) is None


async def test_figures_tell_how_full_the_lanes_are(queue: TaskQueue) -> None:
    await queue.settle(tenant_cap=1, slots=4, idle_s=60)  # one video at a time, and one task of an owner
    for owner, fmt in (("ada", MP4), ("bob", MP4), ("cyd", JPEG)):
        await queue.enqueue(fields(owner, fmt))
    await taken(queue)
    await queue.enqueue(fields("ada", MP4) | {"first_seen": "1700000000.000"})  # it has waited before
    stats = await queue.stats()
    assert (stats.videos, stats.video_cap) == (1, 1)
    assert (stats.oldest_tenant, stats.running_of_oldest_tenant, stats.tenant_cap) == ("video/ada", 1, 1)


async def test_a_video_is_not_behind_all_that_waited_while_their_lane_was_full(queue: TaskQueue) -> None:
    await queue.settle(tenant_cap=0, slots=4, idle_s=60)  # one video at a time
    for _ in range(6):
        await queue.enqueue(fields("filmmaker", MP4))
    video = await taken(queue)
    for _ in range(40):
        await queue.enqueue(fields("photographer"))
    assert await owners(queue, 40) == ["photographer"] * 40
    await queue.enqueue(fields("another", MP4))
    await video.complete()
    assert "another" in await owners(queue, 2)


async def test_a_slow_server_has_its_slots_and_no_more(redis: Redis) -> None:
    queue = TaskQueue(redis, CACHE_QUEUE)
    await queue.settle(tenant_cap=3, slots=8, idle_s=60)
    for number in range(50):
        await queue.enqueue({"remote_url": f"https://slow.example/{number}"})
    slow = [await taken(queue) for _ in range(3)]
    assert await take(queue) is None
    await queue.enqueue({"remote_url": "https://healthy.example/"})
    assert (await taken(queue)).task.fields["remote_url"] == "https://healthy.example/"
    await slow[0].complete()
    assert (await taken(queue)).task.fields["remote_url"] == "https://slow.example/3"


async def test_a_server_whose_breaker_is_open_gets_no_turn_and_no_task_comes_back(redis: Redis, other: Client) -> None:
    queue = TaskQueue(redis, CACHE_QUEUE)
    await queue.settle(tenant_cap=2, slots=8, idle_s=60)
    ids = [await queue.enqueue({"remote_url": f"https://down.example/{number}"}) for number in range(20)]
    first = await taken(queue)
    await first.defer(600.0, "paused")
    second = await taken(queue)  # it was on its way already
    await second.defer(600.0, "paused")
    assert await take(queue) is None
    assert other.zcard(QueueKeys(CACHE_QUEUE).delayed) == 0
    await queue.settle(tenant_cap=2, slots=8, idle_s=60)
    assert await take(queue) is None
    other.hset(QueueKeys(CACHE_QUEUE).state, "parked:down.example", 1)  # the pause is over
    await queue.settle(tenant_cap=2, slots=8, idle_s=60)
    again = await taken(queue)
    assert (again.task.task_id, again.attempt) == (ids[0], 1)


async def test_what_other_services_add_is_adopted(queue: TaskQueue, other: Client) -> None:
    await queue.ensure_group()
    for _ in range(300):
        other.xadd(PROCESSING_QUEUE, fields("many"))
    other.xadd(PROCESSING_QUEUE, fields("one"))
    while await queue.adopt():
        pass
    assert (await queue.stats()).depth == 301
    assert other.xlen(PROCESSING_QUEUE) == 8
    assert "one" in await owners(queue, 10)


async def test_what_another_service_adds_over_the_bound_waits_for_its_turn(redis: Redis, other: Client) -> None:
    queue = TaskQueue(redis, CACHE_QUEUE)
    await queue.settle(tenant_cap=1, slots=8, idle_s=60)
    for number in range(5):
        other.xadd(CACHE_QUEUE, {"task_id": f"t{number}", "remote_url": f"https://slow.example/{number}"})
    held = await taken(queue)
    assert await take(queue) is None
    assert (await queue.stats()).depth == 5
    await held.complete()
    assert (await taken(queue)).task.task_id == "t1"


async def test_a_paused_queue_gives_out_nothing(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(fields("a"))
    lease = await taken(queue)
    for _ in range(3):
        await queue.enqueue(fields("a"))
    await queue.pause()
    assert other.scard(QueueKeys(queue.name).paused) == 1
    await queue.enqueue(fields("b"))
    other.xadd(PROCESSING_QUEUE, fields("foreign"))
    await lease.release()
    assert await take(queue) is None
    stats = await queue.stats()
    assert (stats.depth, stats.lag, stats.pending) == (6, 6, 0)
    assert stats.paused_since > 0
    assert await queue.resume()
    assert not await queue.resume()
    assert other.scard(QueueKeys(queue.name).paused) == 0
    assert len(await owners(queue, 6)) == 6


@pytest.mark.parametrize("loss", ["entries", "stream", "backlog", "everything"])
async def test_what_somebody_removes_frees_its_account(redis: Redis, other: Client, loss: str) -> None:
    queue, keys = TaskQueue(redis, CACHE_QUEUE), QueueKeys(CACHE_QUEUE)
    await queue.settle(tenant_cap=2, slots=8, idle_s=60)
    for number in range(5):
        await queue.enqueue({"remote_url": f"https://slow.example/{number}"})
    lease = await taken(queue)
    match loss:
        case "entries":
            other.xdel(CACHE_QUEUE, *[entry_id for entry_id, _ in other.xrange(CACHE_QUEUE)])
        case "stream":
            other.delete(CACHE_QUEUE)
        case "backlog":
            other.delete(keys.waiting)
            await lease.complete()
        case "everything":
            other.flushall()
    await queue.settle(tenant_cap=2, slots=8, idle_s=60)
    await queue.enqueue({"remote_url": "https://slow.example/new"})
    urls = set()
    while (lease_ := await take(queue)) is not None:
        urls.add(lease_.task.fields["remote_url"])
        await lease_.complete()
    assert "https://slow.example/new" in urls
    assert [each for each in other.hkeys(keys.state) if each.startswith(("entry:", "running:"))] == []


async def test_a_janitor_records_how_many_read_the_queue(queue: TaskQueue, other: Client) -> None:
    janitor = queue.janitor_lock("a", 10.0)
    assert await queue.count_consumers() == 0
    await queue.ensure_group()
    for consumer in ("a", "b"):
        await queue.send_heartbeat(consumer)
    assert await janitor.acquire()
    assert other.get(KEYS.janitor) == "a"
    assert await queue.settle(tenant_cap=0, slots=1, idle_s=60) == await queue.count_consumers() == 2
    assert not await queue.janitor_lock("b", 10.0).acquire()
    await janitor.release()
    assert await queue.janitor_lock("b", 10.0).acquire()
