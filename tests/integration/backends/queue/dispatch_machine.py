"""A state machine of fair dispatch: every way a task can move, in any order, through the real scripts.

After each step: no task is lost or there twice; a tenant has a turn if and only if it has waiting tasks, runs fewer
than its cap and is not parked; nobody waits beside a free place on the runway; accounts agree with the stream.

After each script, of what it moved from the backlog to the runway (`Shares`): while a tenant has a turn and waits for
it, no other tenant gets more than two turns more than it, and each tenant's oldest task goes first. Two follows from
start-time fair queueing with tasks of one size: Goyal, Vin and Cheng, SIGCOMM 1996, theorem 1.

``broken`` names one rule of the scripts that is broken on purpose: see `BREAKS`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import redis as redis_py
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from avion_media.backends.queue import MAX_DEATHS, QueueKeys, scripts
from avion_media.backends.queue.entries import WAITING_HEADER, delayed_member
from avion_media.backends.redis import Script
from avion_media.common.formats import JPEG, MP4
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import CONSUMER_GROUP, PROCESSING_QUEUE
from tests.service.published import fields_of

KEYS = QueueKeys(PROCESSING_QUEUE)
RUNWAY, RESTING, DRAINED = 8, 4e15, 8e15
IMAGE, VIDEO = str(new_media_id(JPEG, 1_700_000_000_000)), str(new_media_id(MP4, 1_700_000_000_000))
TENANTS = st.sampled_from(["a", "b", "c"])
MEDIA = st.sampled_from([IMAGE, IMAGE, VIDEO])
_FENCE_FROM = 4  # deliveries, in the arguments of an ending

BREAKS: dict[str, tuple[str, str]] = {
    "account": ("redis.call('HDEL', state, account, cancelled)", ""),
    "cap": ("return cap > 0 and running >= cap", "return false"),
    "lane": ("return cap > 0 and settings().videos >= cap", "return false"),
    "leaves the backlog": ("redis.call('ZREM', waiting, member)", ""),
    "requeued": ("note_running(append(queue, fields), tenant)\n  end\n  return true", "end\n  return true"),
    "drained": ("place(tenant, another and READY or DRAINED,", "place(tenant, READY,"),
    "readmitted": ("if phase == RESTING then\n    readmit(tenant, turn)", "if phase == RESTING then"),
    "a turn is not forgotten": ("math.max(turn, time_of(lane_of(tenant)))", "time_of(lane_of(tenant))"),
    "time does not go back": ("if turn > settings().turn then", "if turn ~= settings().turn then"),
    "settle frees who may go on": ("  readmit(tenant, turn)\nend\nredis", "end\nredis"),
    "one task a turn": ("or DRAINED, turn + 1)", "or DRAINED, turn)"),
    "the oldest goes first": ("local time = math.max(0, math.min(first_seen, 1e11)) * 1000", "local time = 0"),
    "a video has its turn among images": ("if video and its_turn < turn then", "if false then"),
    "a full lane has its own time": (
        "return math.min(turn or settings().turn, settings().turn)",
        "return settings().turn",
    ),
}
"""Rules of the scripts, and what each becomes when it is broken."""


@dataclass(frozen=True)
class Snapshot:
    """What Redis stores of the queue at one moment."""

    stream: dict[str, dict[str, str]]  # tasks by entry
    waiting: dict[str, list[dict[str, str]]]  # tasks by tenant
    turns: dict[str, float]  # scores by tenant
    state: dict[str, str]
    elsewhere: list[str]  # the ids of delayed tasks and dead letters
    pending: int  # entries that a worker has
    last_taken: str  # the last of them

    @property
    def ready(self) -> set[str]:
        """The tenants that wait for their turn."""
        return {tenant for tenant in self.waiting if self.turns.get(tenant, DRAINED) < RESTING}

    @property
    def is_lane_full(self) -> bool:
        """Whether no video has a turn."""
        return 0 < int(self.state.get("video_cap", 0)) <= int(self.state.get("videos", 0))


class Shares:
    """How many turns each tenant had more than each other tenant, while that one was ready."""

    def __init__(self) -> None:
        self.ahead: dict[tuple[str, str], int] = defaultdict(int)

    def check(self, before: Snapshot, after: Snapshot) -> None:
        """Compare what a script moved to the runway with what was there before."""
        there = {task["task_id"] for task in before.stream.values()}
        owner_of = {task["task_id"]: tenant for tenant, tasks in before.waiting.items() for task in tasks}
        moved = [task for task in after.stream.values() if task["task_id"] not in there]
        for task in moved:
            tenant = owner_of.get(task["task_id"])
            for other in after.waiting.get(tenant or "", []):
                assert other["task_id"] not in owner_of or task["first_seen"] <= other["first_seen"]
        had_turns = [_tenant_of(task) for task in moved]
        full = before.is_lane_full or after.is_lane_full
        ready = before.ready & after.ready
        for one, another in list(self.ahead):
            if another not in ready or (full and _is_video(another) and not _is_video(one)):
                del self.ahead[one, another]
        for tenant in had_turns:
            for one, another in list(self.ahead):
                if another == tenant:
                    self.ahead[one, another] = max(0, self.ahead[one, another] - 1)
            for another in ready - {tenant}:
                # A lane that was full may catch up with images, and images do not wait for a full lane.
                if _is_video(tenant) == _is_video(another) or (_is_video(another) and not full):
                    self.ahead[tenant, another] += 1
                    assert self.ahead[tenant, another] <= 2


def _is_video(tenant: str) -> bool:
    return tenant.startswith("video/")


def _tenant_of(task: dict[str, str]) -> str:
    return f"{'video' if task['media_id'] == VIDEO else 'image'}/{task['owner']}"


class DispatchMachine(RuleBasedStateMachine):
    """See the module's text. ``url`` and ``broken`` are set by `machine_of`."""

    url = ""
    broken = ""

    def __init__(self) -> None:
        super().__init__()
        self.client: Any = redis_py.Redis.from_url(self.url, decode_responses=True)
        self.client.flushall()
        self.client.xgroup_create(KEYS.stream, CONSUMER_GROUP, "0", mkstream=True)
        self.number = 0
        self.alive: set[str] = set()
        self.dead: set[str] = set()  # dead letters
        self.leased: dict[str, dict[str, str]] = {}  # by entry
        self.paused = False
        self.cap = self.videos = 0
        self.shares = Shares()
        self.seen: Snapshot | None = None
        self.digests: dict[Script, str] = {}

    def teardown(self) -> None:
        self.client.close()

    def run_script(self, script: Script, *args: object, keys: tuple[str, ...] = ()) -> Any:
        all_keys = (*KEYS.dispatch, *keys)
        before = self.now()
        pipe = self.client.pipeline(transaction=False)
        pipe.evalsha(self.digest_of(script), len(all_keys), *all_keys, *args)
        reply, self.seen = self.look(pipe)
        self.shares.check(before, self.seen)
        return reply

    def digest_of(self, script: Script) -> str:
        if script not in self.digests:
            source = script.source.replace(*BREAKS[self.broken]) if self.broken else script.source
            self.digests[script] = self.client.script_load(source)
        return self.digests[script]

    def now(self) -> Snapshot:
        """What is stored: nothing but a script has changed it since the last look, or `seen` is None."""
        if self.seen is None:
            _, self.seen = self.look(self.client.pipeline(transaction=False))
        return self.seen

    def look(self, pipe: Any) -> tuple[Any, Snapshot]:
        """Send what is in the pipeline. Return its first reply, and what is stored after it."""
        pipe.xrange(KEYS.stream)
        pipe.zrange(KEYS.waiting, 0, -1)
        pipe.zrange(KEYS.tenants, 0, -1, withscores=True)
        pipe.hgetall(KEYS.state)
        pipe.zrange(KEYS.delayed, 0, -1)
        pipe.xrange(KEYS.dead_letters)
        pipe.xinfo_groups(KEYS.stream)
        *first, stream, members, turns, state, delayed, dead, (group,) = pipe.execute()
        waiting = defaultdict(list)
        for member in members:
            tenant, _, text = member.partition("\0")
            if text:
                flat = json.loads(text[WAITING_HEADER:])
                waiting[tenant].append(dict(zip(flat[::2], flat[1::2], strict=True)))
        ended = [fields_of(each)["task_id"] for each in delayed] + [fields["task_id"] for _, fields in dead]
        return first and first[0], Snapshot(
            dict(stream), dict(waiting), dict(turns), state, ended, group["pending"], group["last-delivered-id"]
        )

    def new_task(self, tenant: str, medium: str) -> dict[str, str]:
        self.number += 1
        task_id = f"t{self.number}"
        self.alive.add(task_id)
        seen = f"{1_700_000_000 + self.number}.000"  # by number, because some come within one millisecond
        return {"task_id": task_id, "media_id": medium, "owner": tenant, "first_seen": seen}

    def fence(self, entry_id: str) -> tuple[object, ...]:
        return (
            CONSUMER_GROUP,
            entry_id,
            "c",
            self.client.xpending_range(KEYS.stream, CONSUMER_GROUP, entry_id, entry_id, 1)[0]["times_delivered"],
        )

    def any_lease(self, data: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(self.leased))))

    @initialize(cap=st.integers(0, 3), slots=st.integers(2, 6))
    def begin(self, cap: int, slots: int) -> None:
        self.cap, self.slots = cap, slots
        self.settle()

    @rule(tenant=TENANTS, medium=MEDIA, count=st.integers(1, 12))
    def enqueue(self, tenant: str, medium: str, count: int) -> None:
        for _ in range(count):
            task = self.new_task(tenant, medium)
            flat = [part for pair in task.items() for part in pair]
            self.run_script(scripts.ENQUEUE, task["task_id"], 1000, 1000, *flat)

    @rule(tenant=TENANTS, medium=MEDIA, count=st.integers(1, 12))
    def tasks_come_one_by_one(self, tenant: str, medium: str, count: int) -> None:
        for _ in range(count):
            self.enqueue(tenant, medium, 1)
            self.work(1)

    @rule(tenant=TENANTS, medium=MEDIA, count=st.integers(1, 12))
    def another_service_adds(self, tenant: str, medium: str, count: int) -> None:
        for _ in range(count):
            self.client.xadd(KEYS.stream, self.new_task(tenant, medium))
        self.seen = None

    @rule(count=st.integers(1, 20))
    def work(self, count: int) -> None:
        """Take and complete tasks, as a worker with one slot does: the end of one takes the next."""
        entry_id = None
        while count:
            if entry_id is None:
                found = self.run_script(scripts.TAKE, "c", MAX_DEATHS - 1, 1)
                if found is None:
                    return
                count -= not found
            else:
                task = self.leased.pop(entry_id)
                then = MAX_DEATHS - 1 if count > 1 else ""
                found = self.run_script(scripts.COMPLETE, *self.fence(entry_id), task["task_id"], 0, then)
                assert found != 0
                self.alive.remove(task["task_id"])
                count -= 1
            entry_id = self.given(found) if found != 1 else None

    @rule()
    def take_one(self) -> None:
        found = self.run_script(scripts.TAKE, "c", MAX_DEATHS - 1, 1)
        if found is not None:
            self.given(found)

    def given(self, found: Any) -> str | None:
        """Return the entry that a worker was given, which is leased now; None if its task has to wait."""
        if not found:
            return None
        assert not self.paused
        (entry_id, flat), (_, _, cancelled_by) = found
        assert cancelled_by == ""
        self.leased[entry_id] = dict(zip(flat[::2], flat[1::2], strict=True))
        return str(entry_id)

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), ending=st.sampled_from(["complete", "retry", "defer", "release", "dead letter", "die"]))
    def end(self, data: Any, ending: str) -> None:
        entry_id = self.any_lease(data)
        task = self.leased.pop(entry_id)
        flat = [part for pair in task.items() for part in pair]
        fence = self.fence(entry_id)
        match ending:
            case "complete":
                assert self.run_script(scripts.COMPLETE, *fence, task["task_id"], 0, "")
                self.alive.remove(task["task_id"])
            case "retry":
                assert self.run_script(scripts.RETRY, *fence, 0, delayed_member(task), keys=(KEYS.delayed,))
            case "defer":
                assert self.run_script(scripts.DEFER, *fence, 1000, *flat)
            case "release":
                assert self.run_script(scripts.RELEASE, *fence)
            case "dead letter":
                assert self.run_script(scripts.DEAD_LETTER, *fence, task["task_id"], 0, task["media_id"], *flat)
            case "die":
                self.client.xclaim(KEYS.stream, CONSUMER_GROUP, "c", 0, [entry_id], idle=90_000, justid=True)
                self.client.hset(KEYS.state, "since", 1)  # else the owner might only have been cut off
                self.seen = None
                assert self.run_script(scripts.RECLAIM, "janitor", 60_000, 30_000, 0, 100, 0) == 1

    @rule()
    def promote(self) -> None:
        self.run_script(scripts.PROMOTE, 100, keys=(KEYS.delayed,))

    @rule()
    def replay(self) -> None:
        for entry_id, _ in self.client.xrange(KEYS.dead_letters):
            assert self.run_script(scripts.REPLAY, entry_id) == 1

    @rule()
    def adopt(self) -> None:
        self.run_script(scripts.ADOPT, 5)

    @rule()
    def settle(self) -> None:
        self.run_script(scripts.SETTLE, self.cap, self.slots, 1, 0.5, 30_000)
        self.videos = int(self.client.hget(KEYS.state, "video_cap"))

    @rule(tenant=TENANTS)
    def a_pause_of_a_tenant_ends(self, tenant: str) -> None:
        for lane in ("image", "video"):
            if f"parked:{lane}/{tenant}" in self.now().state:
                self.client.hset(KEYS.state, f"parked:{lane}/{tenant}", 1)
                self.seen = None
        self.settle()

    @precondition(lambda self: self.cap)
    @rule()
    def an_operator_raises_the_cap(self) -> None:
        self.cap += 1
        self.settle()

    @rule(data=st.data())
    def somebody_deletes_an_entry(self, data: Any) -> None:
        untaken = [each for each, _ in self.client.xrange(KEYS.stream, f"({self.now().last_taken}")]
        if untaken:
            entry_id = data.draw(st.sampled_from(untaken))
            self.alive.remove(self.now().stream[entry_id]["task_id"])
            self.client.xdel(KEYS.stream, entry_id)
            self.seen = None
            self.settle()

    @rule(paused=st.booleans())
    def pause_or_resume(self, paused: bool) -> None:
        self.run_script(scripts.PAUSE if paused else scripts.RESUME, "ada", "", 0)
        self.paused = paused

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        now = self.now()
        places = [task["task_id"] for task in now.stream.values()]
        places += [task["task_id"] for tasks in now.waiting.values() for task in tasks]
        assert sorted(places + now.elsewhere) == sorted(self.alive)

    @invariant()
    def accounts_agree_with_the_stream(self) -> None:
        now = self.now()
        accounts = {
            name.removeprefix("entry:"): tenant for name, tenant in now.state.items() if name.startswith("entry:")
        }
        assert accounts.keys() <= now.stream.keys()
        assert {each for each, task in self.leased.items() if self.cap or task["media_id"] == VIDEO} <= accounts.keys()
        assert self.cap or all(map(_is_video, accounts.values()))
        running = Counter(accounts.values())
        assert {f"running:{tenant}": str(count) for tenant, count in running.items()} == {
            name: count for name, count in now.state.items() if name.startswith("running:")
        }
        videos = sum(count for tenant, count in running.items() if _is_video(tenant))
        assert int(now.state.get("videos", 0)) == videos
        assert videos <= (self.videos or videos)
        assert all(count <= (self.cap or count) for count in running.values())

    @invariant()
    def who_waits_has_its_turn(self) -> None:
        now = self.now()
        waiting = now.waiting.keys()
        assert all(now.turns[tenant] >= DRAINED for tenant in now.turns.keys() - waiting)
        assert waiting <= now.turns.keys()
        for tenant in waiting:
            at_cap = 0 < self.cap <= int(now.state.get(f"running:{tenant}", 0))
            is_parked = float(now.state.get(f"parked:{tenant}", 0)) > 1
            assert RESTING <= now.turns[tenant] < DRAINED if at_cap or is_parked else now.turns[tenant] < RESTING
        if len(now.stream) - now.pending < RUNWAY and not self.paused:
            assert not {each for each in now.ready if not (now.is_lane_full and _is_video(each))}


def machine_of(url: str, broken: str = "") -> type[DispatchMachine]:
    """The machine on the Redis at ``url``."""
    loaded = [each.source for each in vars(scripts).values() if isinstance(each, Script)]
    assert not broken or any(BREAKS[broken][0] in each for each in loaded)
    return type("Machine", (DispatchMachine,), {"url": url, "broken": broken})
