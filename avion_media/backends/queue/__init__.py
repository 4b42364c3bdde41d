"""Tasks on Redis: fenced leases, delayed tasks, dead letters."""

from avion_media.backends.queue.bulk_jobs import (
    DEFAULT_RATE,
    BulkJob,
    BulkJobs,
    JobProgress,
    JobState,
    all_jobs,
    find_jobs,
)
from avion_media.backends.queue.dead_letters import DeadLetter, DeadLetterFilter, DeadLetters, detail_of, reason_of
from avion_media.backends.queue.entries import NEVER_GIVEN_UP, QueueKeys
from avion_media.backends.queue.lease import Lease
from avion_media.backends.queue.task_queue import LATE_S, MAX_DEATHS, DataLoss, QueueStats, TaskQueue, open_queues
