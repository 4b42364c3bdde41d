"""A fetch of remote media is overtaken at every moment. All thumbnails show the current original."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, cast

import pytest
import redis as redis_py

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.remote import Fetcher
from avion_media.backends.settings import RemoteConfig
from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Dependency, Reason, Rejected, Unavailable
from avion_media.common.tasks import CACHE_QUEUE, REGENERATE, State, Status, Task
from avion_media.items.item import Items
from avion_media.items.moderation import BlockedHosts, Changes, Entry, HashType, Moderation, parse_host
from avion_media.items.moderation.entries import page_of
from avion_media.items.state import StatusStore
from avion_media.media.pipeline import MediaPipeline
from avion_media.media.settings import UploadConfig
from avion_media.workers.cache_remote import CacheRemote
from avion_media.workers.processor import Processor
from guarded_fetch import Fetched, RemoteUrl, parse_remote_url
from tests.crash.stage import (
    PNG_HEAD,
    SIZES,
    Act,
    Bench,
    Killed,
    MemoryStore,
    NothingAgainst,
    Stage,
    Steps,
    in_hand,
    slot_of,
    stepped,
    thumbnail_of,
)
from tests.remote_ids import knowing, remote_id_for

URL = parse_remote_url("https://remote.example/cat.png")
REMOTE = remote_id_for(str(URL))


class Server:
    """The remote server: another file at each fetch."""

    def __init__(self, body: bytes, hosts: BlockedHosts) -> None:
        self._body = body
        self._hosts = hosts

    async def fetch_if_changed(self, url: RemoteUrl, fd: int, _known: object, _max_bytes: int) -> Fetched:
        if self._hosts.is_blocked(url.host):
            raise Rejected(Reason.BLOCKED_HOST)
        os.pwrite(fd, self._body, 0)
        return Fetched(len(self._body), url, None)


@dataclass
class Cache:
    """The media item in the store, and its attempts."""

    redis: Redis
    objects: dict[str, Any] = field(default_factory=dict)
    screening: Callable[[Steps], Moderation] | None = None

    def items(self, steps: Steps) -> Items:
        store = slot_of(Dependency.STORE, cast("ObjectStore", MemoryStore(self.objects, steps)))
        return knowing(Items(store, stepped(self.redis, steps), SIZES, status_ttl_s=600.0))

    def attempt(self, mark: bytes, steps: Steps) -> CacheRemote:
        items = self.items(steps)
        nothing_against = cast("Moderation", NothingAgainst(items))
        moderation = nothing_against if self.screening is None else self.screening(steps)
        processor = Processor(
            items,
            moderation,
            slot_of(Dependency.SANDBOX, cast("MediaPipeline", Bench(SIZES))),
            UploadConfig(),
            frozenset({"png"}),
        )
        return CacheRemote(processor, cast("Fetcher", Server(PNG_HEAD + mark, moderation.hosts)), RemoteConfig())

    async def fetch(self, mark: bytes, steps: Steps) -> None:
        await self.attempt(mark, steps).run(Task(mark.decode(), {"remote_url": str(URL)}), in_hand)

    async def repair(self, mark: bytes = b"-") -> int:
        """Run all queued tasks. Return how many there were. ``mark`` is that of the file that the server has."""
        queue, count = TaskQueue(self.redis, CACHE_QUEUE), 0
        while (lease := await queue.take("worker", block_s=0)) is not None:
            await self.attempt(mark, Steps()).run(lease.task, lease.renew)
            await lease.complete()
            count += 1
        return count

    def is_of_one_file(self) -> bool:
        """Return whether the thumbnails are made of the original, also by their metadata."""
        original = self.objects[keys.original(REMOTE)].data
        thumbnails = [self.objects[keys.thumbnail(REMOTE, size.name)] for size in SIZES]
        return all(
            each.data == thumbnail_of(original) and each.metadata["sha256"] == sha256(original).hexdigest()
            for each in thumbnails
        )


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as opened:
        yield opened


async def test_overtaken_at_every_moment(redis: Redis, redis_url: str) -> None:
    moment, repaired = 0, 0
    with redis_py.Redis.from_url(redis_url) as client:
        while True:
            client.flushall()
            cache = Cache(redis)

            async def overtake(cache: Cache = cache) -> None:
                await cache.fetch(b"2", Steps())

            steps = Steps({moment: overtake})
            await cache.fetch(b"1", steps)
            repaired += await cache.repair()
            assert cache.is_of_one_file(), steps.names[moment] if moment < steps.count else ""
            if moment >= steps.count:
                break
            moment += 1
    assert moment >= 15
    assert repaired  # otherwise the test could not fail


async def test_its_host_is_blocked_at_every_moment(redis: Redis, redis_url: str) -> None:
    """Nothing stays of a fetch whose host was blocked before the last look of its worker."""
    moment, refused = 0, 0
    with redis_py.Redis.from_url(redis_url) as client:
        while True:
            client.flushall()
            cache = Cache(redis)

            def hosts_of(steps: Steps, cache: Cache = cache) -> BlockedHosts:
                store = slot_of(Dependency.STORE, cast("ObjectStore", MemoryStore(cache.objects, steps)))
                return BlockedHosts(store, Changes(stepped(redis, steps)), ())

            def screening(
                steps: Steps, cache: Cache = cache, hosts_of: Callable[[Steps], BlockedHosts] = hosts_of
            ) -> Moderation:
                nothing_against = NothingAgainst(cache.items(steps))
                nothing_against.hosts = hosts_of(steps)
                return cast("Moderation", nothing_against)

            cache.screening = screening
            blocking = partial(hosts_of(Steps()).block, parse_host("remote.example"))
            steps = Steps({moment: blocking})
            reason = None
            try:
                await cache.fetch(b"1", steps)
            except Rejected as rejected:
                reason = rejected.reason
            if reason is None:
                looked = max(number for number, name in enumerate(steps.names) if name == "after redis GET")
                assert moment >= looked, steps.names[moment]
            else:
                assert reason is Reason.BLOCKED_HOST
                assert list(cache.objects) == [f"{keys.HOST_BLOCK_PREFIX}remote.example"], steps.names[moment]
                refused += 1
            if moment >= steps.count:
                break
            moment += 1
    assert refused >= 10


async def test_a_repair_whose_original_is_replaced_meanwhile_is_done_again(redis: Redis) -> None:
    cache = Cache(redis)
    await cache.fetch(b"1", Steps())
    for size in SIZES:
        cache.objects[keys.thumbnail(REMOTE, size.name)].metadata["sha256"] = "of another"

    async def replace() -> None:
        stored = cache.objects[keys.original(REMOTE)]
        cache.objects[keys.original(REMOTE)] = dataclasses.replace(stored, data=PNG_HEAD + b"2")

    task = Task("r", {"remote_url": str(URL), REGENERATE: "thumbnails"})
    steps = Steps()
    await cache.attempt(b"-", steps).run(task, in_hand)
    assert cache.is_of_one_file()
    downloaded = next(moment for moment, name in enumerate(steps.names) if name.startswith("before get"))
    cache.objects[keys.thumbnail(REMOTE, "small")].metadata["sha256"] = "of another"
    repair = cache.attempt(b"-", Steps({downloaded: replace}))
    with pytest.raises(Unavailable):
        await repair.run(task, in_hand)


@pytest.mark.parametrize("heard", [False, True], ids=["not heard", "heard by the worker's process"])
async def test_a_block_at_every_moment_of_a_fetch_leaves_nothing_to_be_served(
    redis: Redis, redis_url: str, *, heard: bool
) -> None:
    moment = 0
    with redis_py.Redis.from_url(redis_url) as client:
        while True:
            client.flushall()
            stage = Stage(client, redis, moderated=True)
            cache = Cache(redis, stage.objects, stage.screening)

            async def block(stage: Stage = stage) -> None:
                await stage.block(any_id=REMOTE)
                if heard:
                    await stage.hear()

            steps = Steps({moment: block})
            with suppress(Rejected):
                await cache.fetch(b"1", steps)
            if moment >= steps.count:
                break
            assert not any(key.startswith((keys.CACHED_REMOTE_PREFIX, "thumbnail")) for key in cache.objects), moment
            status = await StatusStore(redis).get(str(REMOTE))
            assert status == Status(str(REMOTE), State.FAILED, reason=Reason.BLOCKED), steps.names[moment]
            moment += 1
    assert moment >= 15


@pytest.mark.parametrize("given_up", [False, True], ids=["fetched again", "given up"])
async def test_a_fetch_that_is_killed_at_every_moment_after_a_block_leaves_nothing_to_be_served(
    redis: Redis, redis_url: str, *, given_up: bool
) -> None:
    async def kill() -> None:
        raise Killed

    steps, moment = Steps(), 0
    await Cache(redis, screening=Stage(None, redis, moderated=True).screening).fetch(b"1", steps)
    with redis_py.Redis.from_url(redis_url) as client:
        while moment < steps.count:
            client.flushall()
            await Changes(redis).note()
            stage = Stage(client, redis, moderated=True)
            cache = Cache(redis, stage.objects, stage.screening)
            written = next(index for index, name in enumerate(steps.names) if name.startswith("before put cached_"))
            moment = max(moment, written) + 1
            acts: dict[int, Act] = {written: partial(stage.block, any_id=REMOTE), moment: kill}
            steps = Steps(acts)
            with suppress(Killed, Rejected, BaseExceptionGroup):  # two calls at once can be killed
                await cache.fetch(b"1", steps)
            stage.end_claims()
            handler, task = cache.attempt(b"1", Steps()), Task("1", {"remote_url": str(URL)})
            try:
                if given_up:
                    await handler.record_failure(task, Reason.INTERNAL)
                else:
                    await handler.run(task, in_hand)
            except Rejected as rejection:
                await handler.record_failure(task, rejection.reason)
            assert not any(key.startswith((keys.CACHED_REMOTE_PREFIX, "thumbnail")) for key in cache.objects), moment
            status = await StatusStore(redis).get(str(REMOTE))
            assert status == Status(str(REMOTE), State.FAILED, reason=Reason.BLOCKED), steps.names[moment]


async def test_a_release_does_not_cover_another_file_of_the_server(redis: Redis, redis_url: str) -> None:
    with redis_py.Redis.from_url(redis_url) as client:
        stage = Stage(client, redis, moderated=True, pdq=bytes(32))
        cache = Cache(redis, stage.objects, stage.screening)
        stage.write(page_of(entry := Entry(HashType.PDQ, bytes(32), "seen")), f"{entry}\n".encode())
        await cache.fetch(b"1", Steps())
        for mark, published in ((b"2", False), (b"2", True)):  # the second release is one of the second file
            assert await stage.waiting() == {str(REMOTE)}
            await stage.release(any_id=REMOTE)
            assert await cache.repair(mark) == 1
            assert (keys.original(REMOTE) in cache.objects) == published
    left = {key for key in cache.objects if key.startswith((keys.QUARANTINE_PREFIX, keys.HELD_PREFIX))}
    assert left == set()
