"""Workers that stand still, at random and under load.

``python -m tests.chaos.stops --claim-after 3 --stops 50 --seed 7``: eight workers share a queue. Up to half of
them at once get SIGSTOP for 0.5 to 3 times ``--claim-after``. Right after each stop a fresh upload is queued, and one
of the others has a free slot: all uploads, and the attempts that stopped workers go on with afterwards, take fewer than
they have. At the end, one upload has its worker killed three times. Goals, which decide the exit status:

- every healthy upload ends well: 0 lost, 0 given up;
- a fresh upload starts within 2 s, because there is a free slot;
- the upload that had three workers killed is poison, and nothing else is.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from avion_media.backends.queue import MAX_DEATHS, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import PROCESSING_QUEUE
from tests.chaos.stops_worker import BEGUN, ENDED
from tests.services import redis_server

WORKERS, LOAD = 8, 4
FRESH_WITHIN_S = 2.0
_START_S = 60.0
_POLL_S = 0.02


@dataclass
class Report:
    """What happened. ``fresh_s``: the time from queued to begun of each upload that was queued right after a stop."""

    stops: int = 0
    uploads: int = 0
    attempts: int = 0
    fresh_s: list[float] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    deadly: str = ""

    @property
    def unharmed(self) -> bool:
        """Whether healthy uploads ended well, and the deadly one is poison."""
        return not (self.given_up or self.lost) and self.deadly == "poison"

    @property
    def good(self) -> bool:
        """Whether all goals are reached."""
        return self.unharmed and max(self.fresh_s) <= FRESH_WITHIN_S

    def lines(self) -> list[str]:
        """The printed report."""
        times = sorted(self.fresh_s)
        return [
            f"{self.stops} stops, {self.uploads} healthy uploads, {self.attempts} attempts",
            f"given up {len(self.given_up)} {self.given_up}, lost {len(self.lost)} {self.lost}; goal 0",
            f"fresh upload begun after {times[len(times) // 2]:.2f} s in the median, {times[-1]:.2f} s at most;"
            f" goal {FRESH_WITHIN_S:g} s",
            f"upload whose worker was killed {MAX_DEATHS} times: {self.deadly or 'no end'}; goal poison",
        ]


class Fleet:
    """The workers, each a process."""

    def __init__(self, url: str, claim_after_s: float, exits: ExitStack) -> None:
        self._command = [sys.executable, "-m", "tests.chaos.stops_worker", url, str(claim_after_s)]
        self._exits = exits
        self.pids: list[int] = []
        self.stopped: set[int] = set()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start one more worker. It dies with this process."""
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *self._command], stdout=quiet, stderr=quiet)
        self._exits.callback(process.wait)
        self._exits.callback(process.kill)
        self._processes[process.pid] = process
        self.pids.append(process.pid)

    async def stop(self, pid: int) -> None:
        """Let a worker stand still, and wait until it does."""
        self.stopped.add(pid)
        os.kill(pid, signal.SIGSTOP)
        await _until(lambda: _state_of(pid) == "T")

    async def go_on(self, pid: int) -> None:
        """Let a worker that stands still go on, and wait until it does."""
        os.kill(pid, signal.SIGCONT)
        await _until(lambda: _state_of(pid) != "T")
        self.stopped.discard(pid)

    async def kill(self, pid: int) -> None:
        """Kill a worker, and wait until it is gone."""
        self._processes[pid].kill()
        await trio.to_thread.run_sync(self._processes[pid].wait)
        self.pids.remove(pid)


class Uploads:
    """Queues uploads, and follows them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue = TaskQueue(redis, PROCESSING_QUEUE)
        self._ended_by_task: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self._begun_by_task: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self.begun: dict[str, list[tuple[int, float]]] = defaultdict(list)  # pids and times, by task
        self.ended: dict[str, str] = {}

    async def add(self, task_id: str, work_s: float) -> float:
        """Queue one. Return the time before that."""
        media_id = str(new_media_id(JPEG, round(time.time() * 1000)))
        now = time.time()
        await self._queue.enqueue(
            {"media_id": media_id, "owner": task_id[0], "work_s": f"{work_s:.3f}"}, task_id=task_id
        )
        return now

    async def follow(self) -> None:
        """Read what the workers report."""
        seen = {BEGUN: 0, ENDED: 0}
        while True:
            for name in seen:
                rows = [row.decode() for row in await self._redis.execute("LRANGE", name, seen[name], -1)]
                seen[name] += len(rows)
                for task_id, _, rest in (row.partition(" ") for row in rows):
                    if name == BEGUN:
                        pid, _, at = rest.partition(" ")
                        self.begun[task_id].append((int(pid), float(at)))
                        self._begun_by_task[task_id].set()
                    else:
                        self.ended[task_id] = rest
                        self._ended_by_task[task_id].set()
            await trio.sleep(_POLL_S)

    async def until_begun(self, task_id: str) -> float:
        """Return when it was first begun."""
        await self._begun_by_task[task_id].wait()
        return self.begun[task_id][0][1]

    async def until_ended(self, task_id: str) -> None:
        """Wait until it ended in any way."""
        await self._ended_by_task[task_id].wait()


async def _until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - other processes
        await trio.sleep(_POLL_S)


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def run(claim_after_s: float, stops: int, seed: int, workers: int = WORKERS) -> Report:
    """Run it, and report."""
    chance, report, names = random.Random(seed), Report(), []
    with redis_server() as url, ExitStack() as exits:
        fleet = Fleet(url, claim_after_s, exits)
        async with open_redis(url) as redis, trio.open_nursery() as nursery:
            uploads = Uploads(redis)
            nursery.start_soon(uploads.follow)
            for _ in range(workers):
                fleet.start()
            with trio.fail_after(_START_S):
                while (await TaskQueue(redis, PROCESSING_QUEUE).stats()).consumers < workers:  # noqa: ASYNC110 - others
                    await trio.sleep(_POLL_S)

            async def load(number: int) -> None:
                count = 0
                while report.stops < stops:
                    count += 1
                    names.append(f"load-{number}-{count}")
                    is_long = chance.random() < 0.2
                    work_s = chance.uniform(0.5, 1.2) * claim_after_s if is_long else chance.uniform(0.01, 0.3)
                    await uploads.add(names[-1], work_s)
                    await uploads.until_ended(names[-1])

            async def stop_and_go() -> None:
                while report.stops < stops:
                    report.stops += 1
                    name = f"fresh-{report.stops}"
                    names.append(name)
                    await trio.sleep(chance.uniform(0, claim_after_s / 3))
                    pid = chance.choice([each for each in fleet.pids if each not in fleet.stopped])
                    hold_s = chance.uniform(0.5, 3) * claim_after_s
                    await fleet.stop(pid)
                    with trio.move_on_after(hold_s) as held:
                        queued_at = await uploads.add(name, 0.05)
                        report.fresh_s.append(await uploads.until_begun(name) - queued_at)
                        await trio.sleep_forever()
                    if held.cancelled_caught and name not in uploads.begun:
                        report.fresh_s.append(hold_s)
                    await fleet.go_on(pid)
                    await uploads.until_ended(name)

            with trio.move_on_after(60 + 10 * claim_after_s + 3 * claim_after_s * stops):
                async with trio.open_nursery() as work:
                    for number in range(LOAD):
                        work.start_soon(load, number)
                    for _ in range(workers // 2):
                        work.start_soon(stop_and_go)
            report.deadly = await _killed(fleet, uploads, claim_after_s)
            nursery.cancel_scope.cancel()
    report.uploads = len(names)
    report.attempts = sum(len(uploads.begun[name]) for name in names)
    report.lost = [name for name in names if name not in uploads.ended]
    report.given_up = [f"{name}: {uploads.ended[name]}" for name in names if uploads.ended.get(name, "-") != "-"]
    return report


async def _killed(fleet: Fleet, uploads: Uploads, claim_after_s: float) -> str:
    """Kill each worker in the middle of an upload. Return how the upload ended."""
    await uploads.add("deadly", 3600.0)
    with trio.move_on_after(60 + 10 * claim_after_s):
        for number in range(MAX_DEATHS):
            await _until(partial(lambda count: len(uploads.begun["deadly"]) > count, number))
            pid, _ = uploads.begun["deadly"][number]
            await fleet.kill(pid)
            fleet.start()
        await uploads.until_ended("deadly")
    return uploads.ended.get("deadly", "")


def main() -> int:
    """Return 0 if all goals are reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.stops", description=__doc__)
    parser.add_argument("--claim-after", type=float, default=3.0, help="TASKS__CLAIM_AFTER in seconds")
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1000))
    options = parser.parse_args()
    report = trio.run(partial(run, options.claim_after, options.stops, options.seed))
    print(f"seed {options.seed}, claim after {options.claim_after:g} s", *report.lines(), sep="\n", flush=True)
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
