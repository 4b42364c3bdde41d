"""Janitors of one queue each, each a process that kills itself after one of its calls to Redis.

usage: python -m tests.integration.backends.queue.doomed_janitors URL QUEUE CALL [QUEUE CALL …]

Exit status 0 if every one of them died in that way.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import trio

from avion_media.backends.queue import BulkJobs, TaskQueue
from avion_media.backends.redis import Redis, Reply
from avion_media.common.errors import Reason
from avion_media.common.tasks import EnsureLease, Task, TaskHandler
from avion_media.workers.bulk import BulkRunner, ReplayDeadLetters
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from supervisors import Supervisor, Worker
from trio_telemetry import NO_TELEMETRY

CLAIM_AFTER_S = 0.8


class Doomed(Redis):
    """Kills its process after ``last`` calls."""

    def __init__(self, url: str, last: int) -> None:
        super().__init__(url)
        self._left = last

    async def execute(self, *command: Any, **options: Any) -> Reply:
        reply = await super().execute(*command, **options)
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply


class NoTasks(TaskHandler):
    """A handler for a process that reads none."""

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        raise NotImplementedError

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        raise NotImplementedError

    async def renew_status(self, task: Task) -> None:
        raise NotImplementedError


def janitor_of(redis: Redis, name: str, handler: Any = None) -> Consumer:
    """A consumer of a queue whose janitor works off bulk replays as well."""
    queue = TaskQueue(redis, name)
    return Consumer(
        queue,
        handler or NoTasks(),
        ConsumerPolicy(2, 3, CLAIM_AFTER_S, 0.05, 0.05),
        name=f"process {os.getpid()}",
        accepting_tasks=lambda: True,
        telemetry=NO_TELEMETRY,
        bulk=BulkRunner(BulkJobs(redis, name), {"replay": ReplayDeadLetters(queue)}),
    )


async def _tend(url: str, name: str, last: int) -> None:
    redis = Doomed(url, last)
    async with redis.opened():
        await Supervisor("doomed", [Worker("janitor", janitor_of(redis, name).tend)]).run()


def main() -> int:
    """Fork a process for each, and wait for all."""
    url, *pairs = sys.argv[1:]
    children = []
    for name, last in zip(pairs[::2], pairs[1::2], strict=True):
        pid = os.fork()
        if not pid:
            trio.run(_tend, url, name, int(last))
            os._exit(0)
        children.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    return 0 if statuses == [-signal.SIGKILL] * len(children) else 1


if __name__ == "__main__":
    sys.exit(main())
