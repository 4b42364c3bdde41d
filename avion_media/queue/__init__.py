"""Tasks, statuses and events on Redis: fenced leases, delayed tasks, dead letters, the status board."""

from avion_media.queue.board import ANY_FAILURE, StatusBoard
from avion_media.queue.dead_letters import DeadLetter, DeadLetters
from avion_media.queue.lease import Lease
from avion_media.queue.names import NEVER_GIVEN_UP, QueueKeys
from avion_media.queue.remote_board import RemoteBoard, RemoteFailure, RemoteMemory
from avion_media.queue.task_queue import MAX_DEATHS, Loss, QueueStats, TaskQueue

__all__ = [
    "ANY_FAILURE",
    "MAX_DEATHS",
    "NEVER_GIVEN_UP",
    "DeadLetter",
    "DeadLetters",
    "Lease",
    "Loss",
    "QueueKeys",
    "QueueStats",
    "RemoteBoard",
    "RemoteFailure",
    "RemoteMemory",
    "StatusBoard",
    "TaskQueue",
]
