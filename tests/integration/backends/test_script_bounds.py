"""A script does a bounded amount of work, however large its keys are: Redis serves nobody else meanwhile.

Work is counted, not timed: commands, and the values that go in and come out of them. The rest is done by later calls,
so beside the bounds there are tests that ready tasks do not wait for them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import redis as redis_py
import trio

import avion_media
import trio_redis
from avion_media.backends.queue import BulkJobs, JobProgress, Lease, QueueKeys, TaskQueue, scripts
from avion_media.backends.redis import Argument, Lock, Redis, Reply, Script
from avion_media.backends.redis.scripts import FLAGS
from avion_media.backends.remote import HostLimiter, HostLimits
from avion_media.backends.store import ObjectStore
from avion_media.common.errors import Dependency
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import CACHE_QUEUE, CONSUMER_GROUP, DELETE_QUEUE, PROCESSING_QUEUE, State, Status
from avion_media.items.deletion import DeletionRecords, JournalReplay
from avion_media.items.deletion import scripts as scripts_of_deletion
from avion_media.items.deletion.channel import write_heard
from avion_media.items.deletion.records import BUCKETS, LAST_UNDELETE, complete_key
from avion_media.items.item import Items
from avion_media.items.moderation.desk import Desk, Moderator
from avion_media.items.private.revocations import Revocation
from avion_media.items.private.tokens import audience_tag
from avion_media.items.state import MediaEvents, RemoteStateStore, StatusStore
from avion_media.items.state.status_store import deletion_key
from guarded_fetch import parse_remote_url
from tests.crash.stage import MemoryStore, Steps, slot_of
from tests.remote_ids import remote_id_for

PACKAGES = [Path(avion_media.__file__).parent, Path(trio_redis.__file__).parent]
MOST_COMMANDS = 2_500  # a few ms of the server's time
MOST_VALUES = 20_000
MANY = 30_000
TASKS = 300_000
CONSUMERS = 300
_FILLED = 5_000  # tenants that one script makes: a busy machine takes a second
KEYS, REMOTE = QueueKeys(PROCESSING_QUEUE), QueueKeys(CACHE_QUEUE)
IDS = [str(new_media_id(JPEG, 1_700_000_000_000 + number)) for number in range(3_000)]
URL = parse_remote_url("https://many.example/a.png")
WHEN_FULL = trio_redis.load_script("trio_redis", "when_full", flags="allow-oom")

# Shadows `redis` in a script. A command that removes an unknown number of values has to say how many.
COUNTING = """\
local redis = (function(real)
  local commands, values = 0, 0
  local sizes = { zset = 'ZCARD', hash = 'HLEN', stream = 'XLEN', list = 'LLEN', set = 'SCARD' }
  local function size(reply)
    local total = 1
    for _, each in pairs(type(reply) == 'table' and reply or {}) do
      total = total + size(each)
    end
    return total
  end
  local function counted(run)
    return function(...)
      local name, key = ...
      local kind = name == 'DEL' and real.call('TYPE', key).ok
      values = values + select('#', ...) + (sizes[kind] and real.call(sizes[kind], key) or 0)
      local reply = run(...)
      commands = commands + 1
      values = values + (string.find(name, '^ZREMRANGE') and reply or size(reply))
      real.call('HSET', 'work', 'commands', commands, 'values', values)
      return reply
    end
  end
  return { call = counted(real.call), pcall = counted(real.pcall), error_reply = real.error_reply }
end)(redis)
"""

FILL = """\
local queue, state, waiting, tenants, delayed, dead, index = unpack(KEYS)
local first, last, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for number = first, last do
  local task = '["media_id","' .. ARGV[4] .. '","task_id","t' .. number .. '","first_seen","1700000000.000"]'
  local members = {}
  for each = 1, tonumber(ARGV[5]) do
    members[2 * each - 1] = 0
    members[2 * each] = 'image/o' .. number .. '\\0' .. string.format('%015d%012d', 1, each) .. task
  end
  redis.call('ZADD', waiting, unpack(members))
  redis.call('ZADD', tenants, 1, 'image/o' .. number, 0, 'image/without' .. number, 4e15 + 1, 'image/rests' .. number,
    8e15 + 1, 'image/drained' .. number)
  redis.call('HSET', state, 'parked:image/rests' .. number, now + 1000)
  redis.call('ZADD', delayed, now, '["media_id","' .. ARGV[4] .. '","task_id","d' .. number .. '"]')
  redis.call('HSET', state, 'entry:9-' .. number, 'image/o' .. number)
  redis.call('XADD', dead, number .. '-1', 'media_id', 'm', 'error', 'internal: x')
  redis.call('ZADD', index, 0, 'm\\0' .. number .. '-1', 0, 'gone\\0' .. number .. '-2')
end
"""
FILL_STREAM = """\
for number = 1, tonumber(ARGV[1]) do
  redis.call('XADD', KEYS[1], '*', 'remote_url', 'https://many.example/' .. number, 'task_id', 't' .. number)
end
"""


class Worked(Redis):
    """Counts what each script does, by its source."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_s=60)
        self.most: dict[str, tuple[int, int]] = {}

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument] = (), *, within_s: float = 60.0
    ) -> Reply:
        _, _, rest = script.source.partition("\n")
        command = ("EVAL", f"#!lua\n{COUNTING}{rest}", len(keys), *keys, *args)
        reply = await self._call(command, within_s, script.takes_process)
        commands, values = map(int, await self.execute("HMGET", "work", "commands", "values"))
        before = self.most.get(script.source, (0, 0))
        self.most[script.source] = max(before[0], commands), max(before[1], values)
        return reply


@pytest.fixture(scope="module")
def large(redis_of_module: str) -> str:
    """A Redis with two large queues; in seconds, so once for all scripts."""
    with redis_py.Redis.from_url(redis_of_module, socket_timeout=60) as client:
        for name in (PROCESSING_QUEUE, CACHE_QUEUE):
            client.xgroup_create(name, CONSUMER_GROUP, "0", mkstream=True)
            for number in range(CONSUMERS):
                client.xgroup_createconsumer(name, CONSUMER_GROUP, f"c{number}")
        keys = (*KEYS.dispatch, KEYS.delayed, KEYS.dead_letters, KEYS.dead_letter_index)
        for first in range(1, MANY, _FILLED):
            args = (first, first + _FILLED - 1, int(time.time()) - 1, IDS[0], TASKS // MANY)
            client.eval(FILL, len(keys), *keys, *args)
        client.hset(KEYS.state, "turn", 1)
        client.zadd(KEYS.waiting, {"": 0})
        client.zadd(KEYS.tenants, {"": 9e15})
        client.eval(FILL_STREAM, 1, CACHE_QUEUE, MANY)
        client.xreadgroup(CONSUMER_GROUP, "c1", {CACHE_QUEUE: ">"}, count=5_000)
    return redis_of_module


class World:
    """What the cases work with."""

    def __init__(self, redis: Worked, other: Any) -> None:
        self.redis, self.other = redis, other
        self.queue, self.remote = TaskQueue(redis, PROCESSING_QUEUE), TaskQueue(redis, CACHE_QUEUE)
        self.jobs, self.records = BulkJobs(redis, DELETE_QUEUE), DeletionRecords(redis)
        store = slot_of(Dependency.STORE, cast("ObjectStore", MemoryStore({}, Steps())))
        self.replay = JournalReplay(Items(store, redis), _Journal())  # type: ignore[arg-type]
        self.hosts = HostLimiter(lambda: redis, HostLimits(2, 30.0, 100.0, 3))

    async def lease(self) -> Lease:
        self.other.xadd(PROCESSING_QUEUE, {"media_id": IDS[1], "owner": f"foreign{time.time_ns()}"})
        lease = await self.queue.take("w", block_s=0)
        assert lease is not None
        return lease

    async def settle(self) -> None:
        await self.queue.settle(tenant_cap=1, slots=4, idle_s=60)

    async def admit(self) -> None:
        self.other.xadd(PROCESSING_QUEUE, {"media_id": IDS[1], "owner": "another"})
        rows = self.other.xreadgroup(CONSUMER_GROUP, "w", {PROCESSING_QUEUE: ">"}, count=1)
        await self.redis.run(scripts.ADMIT, KEYS.dispatch, ("w", 2, rows[0][1][0][0]))

    async def find_indexed(self) -> None:
        await self.redis.run(scripts.FIND_INDEXED, (KEYS.dead_letter_index,), (500, "", "m", "gone", *IDS[:498]))

    async def mark(self) -> None:
        self.other.delete(*map(deletion_key, IDS))
        await self.records.mark(IDS, delay_s=60)

    async def undelete(self) -> None:
        marks = await self.records.mark(IDS, delay_s=0)
        await self.records.undelete(
            {each.media_id: each.generation for each in marks}, await self.records.issue_undelete()
        )

    async def restore(self) -> None:
        marks = await self.records.mark(IDS, delay_s=0)
        self.other.delete(*map(deletion_key, IDS))
        await self.records.restore_marks(marks)

    async def replay_journal(self) -> None:
        self.other.delete(*map(complete_key, BUCKETS))
        assert await self.replay.ensure_complete()

    async def remove(self) -> None:
        await self.replay.ensure_complete()
        (mark,) = await self.records.mark(IDS[:1], delay_s=0, regardless=True)
        await self.records.begin_removal(mark.media_id, mark.generation)
        await self.records.finish_removal(mark.media_id, mark.generation, 60)

    async def revoke(self) -> None:
        many, few = ({audience_tag(IDS[0], str(number)): 1 for number in range(most)} for most in (4_000, 20))
        for audiences, media_ids in ((many, IDS[:1]), (few, IDS)):
            await self.replay.revocations.publish(dict.fromkeys(media_ids, Revocation(1, 0, audiences)))

    async def look_up_private(self) -> None:
        await self.replay.ensure_complete()
        await self.replay.look_up_private(IDS[0], audience_tag(IDS[0], "0"))

    async def begin_job(self) -> None:
        await self.jobs.cancel("undelete")
        assert await self.jobs.begin_undelete([f"m{number}" for number in range(MANY)], rate=1.0, by="me") is not None

    async def advance_job(self) -> None:
        await self.begin_job()
        job = await self.jobs.get("undelete")
        assert job is not None
        await self.jobs.advance(job, JobProgress(done=500, items=[f"m{number}" for number in range(500)]))

    async def fetch(self) -> None:
        async with self.hosts.admitted(URL, trio.current_time() + 60):
            pass

    async def lock(self) -> None:
        lock = Lock(self.redis, "lock", ttl_s=60)
        assert await lock.acquire()
        assert await lock.acquire()
        async with lock.held():
            pass

    async def clear_loss(self) -> None:
        self.other.hset(KEYS.state, "lost", "1.000")
        loss = await self.queue.detect_data_loss()
        assert loss is not None
        await self.queue.clear_data_loss(loss)


class _Journal:
    async def compact(self) -> None:
        """Do nothing."""

    async def entries(self, _after: str) -> AsyncIterator[tuple[str, list[Any]]]:
        return
        yield

    async def set_aside(self) -> AsyncIterator[Any]:
        return
        yield


Case = Callable[[World], Awaitable[object]]


def ending(name: str, *args: object) -> Case:
    async def run(world: World) -> None:
        await getattr(await world.lease(), name)(*args)

    return run


CASES: dict[str, Case] = {
    "queue/adopt": lambda world: world.remote.adopt(),
    "queue/admit": World.admit,
    "queue/advance_job": World.advance_job,
    "queue/begin_job": World.begin_job,
    "queue/cancel": lambda world: world.queue.cancel("t", "ada@desk"),
    "queue/clear_data_loss": World.clear_loss,
    "queue/complete": ending("complete"),
    "queue/dead_letter": ending("dead_letter", "internal: x"),
    "queue/defer": ending("defer", 60.0, "paused"),
    "queue/detect_data_loss": lambda world: world.queue.detect_data_loss(),
    "queue/claim": lambda world: world.queue.claim("k"),
    "queue/enqueue": lambda world: world.queue.enqueue({"media_id": IDS[2]}, dedup_key="k"),
    "queue/find_indexed": World.find_indexed,
    "queue/pause": lambda world: world.remote.pause(),
    "queue/promote": lambda world: world.queue.promote(),
    "queue/reclaim": lambda world: world.remote.reclaim("w", idle_s=0.0),
    "queue/release": ending("release"),
    "queue/remove_idle_consumers": lambda world: world.queue.remove_idle_consumers(0.0),
    "queue/renew": ending("renew"),
    "queue/replay": lambda world: world.queue.dead_letters.replay("7-1"),
    "queue/resume": lambda world: world.remote.resume(),
    "queue/retry": ending("retry", 60.0, "x"),
    "queue/settle": World.settle,
    "queue/stats": lambda world: world.queue.stats(),
    "queue/steer_job": lambda world: world.jobs.cancel("undelete"),
    "queue/take": lambda world: world.queue.take("w", block_s=0),
    "queue/task_ages": lambda world: world.queue.queued_at(IDS),
    "deletion/begin_removal": World.remove,
    "deletion/begin_replay": World.replay_journal,
    "deletion/end_replay": World.replay_journal,
    "deletion/finish_removal": World.remove,
    "deletion/issue_undelete": lambda world: world.records.issue_undelete(),
    "deletion/look_up": lambda world: world.replay.is_deleted(IDS[0]),
    "deletion/mark": World.mark,
    "deletion/note_time": lambda world: world.replay.note_time(),
    "deletion/now": lambda world: world.redis.run(scripts_of_deletion.NOW, (LAST_UNDELETE,)),
    "deletion/read": lambda world: world.records.get_many(IDS),
    "deletion/read_completeness": lambda world: world.replay.epochs(IDS),
    "deletion/restore": World.restore,
    "deletion/undelete": World.undelete,
    "deletion/write_heard": lambda world: write_heard(world.redis, [(b"%d" % each, 0) for each in range(100)]),
    "private/look_up": World.look_up_private,
    "private/read": lambda world: world.replay.revocations.generations(IDS),
    "private/write": World.revoke,
    "moderation/change_claim": lambda world: Desk(world.redis).claim(IDS[0], Moderator("ada", "0123")),
    "state/forget_status": lambda world: StatusStore(world.redis).forget(IDS[0]),
    "state/load_remote": lambda world: RemoteStateStore(world.redis).load(remote_id_for(str(URL))),
    "state/publish_event": lambda world: MediaEvents(world.redis).publish("media.ready", IDS[0], {}),
    "state/put_status": lambda world: StatusStore(world.redis).put(Status(IDS[0], State.PROCESSING), 60),
    "state/read_statuses": lambda world: StatusStore(world.redis).get_many(IDS),
    "state/reset_failure": lambda world: RemoteStateStore(world.redis).reset_failure(remote_id_for(str(URL))),
    "remote/acquire": World.fetch,
    "remote/release": World.fetch,
    "trio_redis/release_lock": World.lock,
    "trio_redis/renew_lock": World.lock,
    "trio_redis/when_full": lambda world: world.redis.run(WHEN_FULL, ("k",), ("SET", "k", "v")),
}


def sources() -> dict[str, str]:
    """The text of each script of the package. Those whose names begin with an underscore are parts of others."""
    return {
        f"{path.parent.parent.name}/{path.stem}": path.read_text()
        for package in PACKAGES
        for path in package.rglob("*.lua")
        if not path.name.startswith("_") and "build" not in path.relative_to(package).parts
    }


def test_every_script_has_a_case() -> None:
    of_library = {each for each in CASES if each.startswith("trio_redis/")}
    assert set(sources()) == set(CASES) == set(FLAGS) - {"queue/follow_up"} | of_library


@pytest.mark.parametrize("name", CASES)
async def test_a_script_does_a_bounded_amount_of_work(large: str, name: str) -> None:
    redis = Worked(large)
    with redis_py.Redis.from_url(large, decode_responses=True) as other:
        async with redis.opened():
            await CASES[name](World(redis, other))
    title = sources()[name].partition("\n")[0]
    commands, values = next(most for source, most in redis.most.items() if title in source)
    assert commands <= MOST_COMMANDS
    assert values <= MOST_VALUES
