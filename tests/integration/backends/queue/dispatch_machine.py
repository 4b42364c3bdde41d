"""A state machine of fair dispatch: every way a task can move, in any order, through the real scripts.

After each step: no task is lost or there twice; a tenant has a turn if and only if it has waiting tasks, runs fewer
than its cap and is not parked; nobody waits beside a free place on the runway; accounts agree with the stream.

``broken`` names one rule of the scripts that is broken on purpose: see `BREAKS`.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import redis as redis_py
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from avion_media.backends.queue import MAX_DEATHS, QueueKeys, scripts
from avion_media.backends.queue.entries import WAITING_HEADER
from avion_media.backends.redis import Script
from avion_media.common.formats import JPEG, MP4
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import CONSUMER_GROUP, PROCESSING_QUEUE

KEYS = QueueKeys(PROCESSING_QUEUE)
RUNWAY, VIDEO_LANE, PARKED, AT_CAP, DRAINED = 8, 1e13, 4e15, 8e15, 8.5e15
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
    "drained": (
        "if another then\n        give_turn(tenant, turn + 1)\n      else",
        "if true then\n        give_turn(tenant, turn + 1)\n      else",
    ),
    "readmitted": ("== AT_CAP then\n    readmit(tenant)", "== AT_CAP then"),
}
"""Rules of the scripts, and what each becomes when it is broken."""


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

    def teardown(self) -> None:
        self.client.close()

    def run_script(self, script: Script, *args: object, keys: tuple[str, ...] = ()) -> Any:
        source = script.source
        if self.broken:
            assert BREAKS[self.broken][0] in source
            source = source.replace(*BREAKS[self.broken])
        all_keys = (*KEYS.dispatch, *keys)
        return self.client.eval(source, len(all_keys), *all_keys, *args)

    def new_task(self, tenant: str, medium: str) -> dict[str, str]:
        self.number += 1
        task_id = f"t{self.number}"
        self.alive.add(task_id)
        return {"task_id": task_id, "media_id": medium, "owner": tenant}

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
    def another_service_adds(self, tenant: str, medium: str, count: int) -> None:
        for _ in range(count):
            self.client.xadd(KEYS.stream, self.new_task(tenant, medium))

    @rule()
    def take(self) -> None:
        found = self.run_script(scripts.TAKE)
        if found:
            entry_id, flat = found
            confirmed = self.run_script(scripts.ADMIT, "c", entry_id, MAX_DEATHS - 1)
            if confirmed:
                assert not self.paused
                assert confirmed[2] == ""
                self.leased[entry_id] = dict(zip(flat[::2], flat[1::2], strict=True))

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), ending=st.sampled_from(["complete", "retry", "defer", "release", "dead letter", "die"]))
    def end(self, data: Any, ending: str) -> None:
        entry_id = self.any_lease(data)
        task = self.leased.pop(entry_id)
        flat = [part for pair in task.items() for part in pair]
        fence = self.fence(entry_id)
        match ending:
            case "complete":
                assert self.run_script(scripts.COMPLETE, *fence, task["task_id"], 0)
                self.alive.remove(task["task_id"])
            case "retry":
                assert self.run_script(scripts.RETRY, *fence, 0, json.dumps(task), keys=(KEYS.delayed,))
            case "defer":
                assert self.run_script(scripts.DEFER, *fence, 1000, *flat)
            case "release":
                assert self.run_script(scripts.RELEASE, *fence)
            case "dead letter":
                assert self.run_script(scripts.DEAD_LETTER, *fence, task["task_id"], 0, *flat)
            case "die":
                self.client.xclaim(KEYS.stream, CONSUMER_GROUP, "c", 0, [entry_id], idle=90_000, justid=True)
                assert self.run_script(scripts.RECLAIM, "janitor", 60_000, 0, 0, 100) == 1

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
        self.run_script(scripts.SETTLE, self.cap, self.slots, 1, 0.5, 30_000, "", 0, keys=(KEYS.janitor,))
        self.videos = int(self.client.hget(KEYS.state, "video_cap"))

    @rule(tenant=TENANTS)
    def a_pause_of_a_tenant_ends(self, tenant: str) -> None:
        for lane in ("image", "video"):
            if PARKED <= (self.client.zscore(KEYS.tenants, f"{lane}/{tenant}") or 0) < AT_CAP:
                self.client.zadd(KEYS.tenants, {f"{lane}/{tenant}": PARKED})
        self.settle()

    @rule(paused=st.booleans())
    def pause_or_resume(self, paused: bool) -> None:
        self.run_script(scripts.PAUSE if paused else scripts.RESUME)
        self.paused = paused

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        places = [fields["task_id"] for _, fields in self.client.xrange(KEYS.stream)]
        places += [task["task_id"] for _, task in self.waiting()]
        places += [json.loads(each)["task_id"] for each in self.client.zrange(KEYS.delayed, 0, -1)]
        places += [fields["task_id"] for _, fields in self.client.xrange(KEYS.dead_letters)]
        assert sorted(places) == sorted(self.alive)

    @invariant()
    def accounts_agree_with_the_stream(self) -> None:
        state = self.client.hgetall(KEYS.state)
        entries = {entry_id for entry_id, _ in self.client.xrange(KEYS.stream)}
        accounts = {name.removeprefix("entry:"): tenant for name, tenant in state.items() if name.startswith("entry:")}
        assert accounts.keys() <= entries
        assert {each for each, task in self.leased.items() if self.cap or task["media_id"] == VIDEO} <= accounts.keys()
        assert self.cap or all(tenant.startswith("video/") for tenant in accounts.values())
        running = Counter(accounts.values())
        assert {f"running:{tenant}": str(count) for tenant, count in running.items()} == {
            name: count for name, count in state.items() if name.startswith("running:")
        }
        videos = sum(count for tenant, count in running.items() if tenant.startswith("video/"))
        assert int(state.get("videos", 0)) == videos
        assert videos <= (self.videos or videos)
        assert all(count <= (self.cap or count) for count in running.values())

    @invariant()
    def who_waits_has_its_turn(self) -> None:
        state = self.client.hgetall(KEYS.state)
        turns = dict(self.client.zrange(KEYS.tenants, 0, -1, withscores=True))
        waiting = {tenant for tenant, _ in self.waiting()}
        assert all(turns[tenant] >= DRAINED for tenant in turns.keys() - waiting)
        assert waiting <= turns.keys()
        for tenant in waiting:
            at_cap = 0 < self.cap <= int(state.get(f"running:{tenant}", 0))
            assert (turns[tenant] == AT_CAP) == at_cap or PARKED <= turns[tenant] < AT_CAP
        pending = self.client.xpending(KEYS.stream, CONSUMER_GROUP)["pending"]
        if self.client.xlen(KEYS.stream) - pending < RUNWAY and not self.paused:
            full = 0 < self.videos <= int(state.get("videos", 0))
            free = {each for each in waiting if turns[each] < PARKED and not (full and each.startswith("video/"))}
            assert not free

    def waiting(self) -> list[tuple[str, dict[str, str]]]:
        found = []
        for member in self.client.zrange(KEYS.waiting, 0, -1):
            tenant, _, text = member.partition("\0")
            if text:
                flat = json.loads(text[WAITING_HEADER:])
                found.append((tenant, dict(zip(flat[::2], flat[1::2], strict=True))))
        return found


def machine_of(url: str, broken: str = "") -> type[DispatchMachine]:
    """The machine on the Redis at ``url``."""
    return type("Machine", (DispatchMachine,), {"url": url, "broken": broken})
