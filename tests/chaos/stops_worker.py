"""One worker of `tests.chaos.stops`: the real loops around the real queue. A task names how long its handler works.

``python -m tests.chaos.stops_worker REDIS_URL CLAIM_AFTER_S``"""

from __future__ import annotations

import os
import sys
import time

import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import Reason
from avion_media.common.tasks import PROCESSING_QUEUE, EnsureLease, Task, TaskHandler
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from supervisors import Supervisor
from trio_telemetry import NO_TELEMETRY

BEGUN, ENDED = (
    "stops:begun",
    "stops:ended",
)  # lists: "task pid Unix-seconds" and "task reason"; the reason of success is "-"
SLOTS = 6


class Works(TaskHandler):
    """Reports when it begins and ends a task."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        """Work for the task's time."""
        await self._redis.execute("RPUSH", BEGUN, f"{task.task_id} {os.getpid()} {time.time():.3f}")
        await trio.sleep(float(task.fields["work_s"]))
        await ensure_lease()
        await self._redis.execute("RPUSH", ENDED, f"{task.task_id} -")

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        """Report why the task was given up."""
        await self._redis.execute("RPUSH", ENDED, f"{task.task_id} {reason}{' file' if is_file_suspect else ''}")


async def main(url: str, claim_after_s: float) -> None:
    """Work until the process is killed."""
    async with open_redis(url) as redis:
        consumer = Consumer(
            TaskQueue(redis, PROCESSING_QUEUE),
            Works(redis),
            ConsumerPolicy(SLOTS, 5, claim_after_s, 0.1, 0.5),
            name=f"worker-{os.getpid()}-{time.time_ns():x}",
            accepting_tasks=lambda: True,
            telemetry=NO_TELEMETRY,
        )
        await Supervisor("worker", consumer.children).run()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], float(sys.argv[2]))
