"""Tasks, statuses and events on Redis: fenced leases, delayed tasks, dead letters, the status board, `drop_deleted`."""

from avion_media.queue.board import ANY_FAILURE, TOMBSTONE_TTL_S, StatusBoard
from avion_media.queue.dead_letters import DeadLetter, DeadLetters
from avion_media.queue.drops import Drop, DropChannel, DropStream, parse_drop
from avion_media.queue.lease import Lease
from avion_media.queue.names import NEVER_GIVEN_UP, QueueKeys
from avion_media.queue.remote_board import RemoteBoard, RemoteFailure, RemoteMemory
from avion_media.queue.task_queue import MAX_DEATHS, Loss, QueueStats, TaskQueue

__all__ = [
    "ANY_FAILURE",
    "MAX_DEATHS",
    "NEVER_GIVEN_UP",
    "TOMBSTONE_TTL_S",
    "DeadLetter",
    "DeadLetters",
    "Drop",
    "DropChannel",
    "DropStream",
    "Lease",
    "Loss",
    "QueueKeys",
    "QueueStats",
    "RemoteBoard",
    "RemoteFailure",
    "RemoteMemory",
    "StatusBoard",
    "TaskQueue",
    "parse_drop",
]
