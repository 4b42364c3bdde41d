"""Tasks on Redis: fenced leases, delayed tasks, dead letters."""

from avion_media.queue.dead_letters import DeadLetter, DeadLetters
from avion_media.queue.lease import Lease
from avion_media.queue.names import NEVER_GIVEN_UP, QueueKeys
from avion_media.queue.task_queue import MAX_DEATHS, Loss, QueueStats, TaskQueue

__all__ = [
    "MAX_DEATHS",
    "NEVER_GIVEN_UP",
    "DeadLetter",
    "DeadLetters",
    "Lease",
    "Loss",
    "QueueKeys",
    "QueueStats",
    "TaskQueue",
]
