"""Names on Redis (docs/contract.md, section 4), and those of this service. The braces are literal: one cluster slot."""

from __future__ import annotations

from dataclasses import dataclass

from avion_media.common.tasks import QUEUES

NEVER_GIVEN_UP = frozenset(name for name, queue in QUEUES.items() if not queue.gives_up)

# The consumer of the group that has each entry from its delivery until a worker confirms the start of its attempt.
UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue."""

    stream: str

    @property
    def delayed(self) -> str:
        """Sorted set: tasks that are due later, by Unix seconds."""
        return f"{{{self.stream}}}:delayed"

    @property
    def dead_letters(self) -> str:
        """Stream: tasks given up."""
        return f"{{{self.stream}}}:dlq"

    @property
    def dead_letter_index(self) -> str:
        """Sorted set: subjects and ids of the dead letters (`DeadLetterIndex`)."""
        return f"{{{self.stream}}}:dlq_index"

    @property
    def state(self) -> str:
        """Hash: accounts of fair dispatch, and records of janitors and data losses.

        ``turn``: virtual time. ``entry:<entry>``: the tenant of an entry of the stream, if its tenant has a bound: all
        tenants of a queue with a cap, and those of videos. ``running:<tenant>``: the number of these entries of one
        tenant. ``videos``: the number of entries that are videos. ``turn:<tenant>``: the next turn of a tenant that has
        none for now. ``number``: the number of the last waiting task. ``tenant_cap``, ``video_cap``: limits.
        ``paused``: when the queue was paused. ``cancelled:<task>``: who cancelled it and when, as
        ``NAME@SECONDS``. ``cursor``: how far
        the janitor has compared accounts with the stream. ``since``, ``last``: first and last sign of an uninterrupted
        line of janitors. ``run_id``, ``lost``: see `TaskQueue.detect_data_loss`.
        """
        return f"{{{self.stream}}}:state"

    @property
    def waiting(self) -> str:
        """Sorted set: the backlog, ordered by tenant and age."""
        return f"{{{self.stream}}}:waiting"

    @property
    def tenants(self) -> str:
        """Sorted set: tenants with waiting tasks, and some that had one, by the virtual time of their next turn."""
        return f"{{{self.stream}}}:tenants"

    @property
    def janitor(self) -> str:
        """String with an expiry: the number of consumers, and the process that is the janitor."""
        return f"{{{self.stream}}}:janitor"

    @property
    def dispatch(self) -> tuple[str, str, str, str]:
        """The first keys of every script that moves tasks."""
        return self.stream, self.state, self.waiting, self.tenants

    def dedup_marker(self, dedup_key: str) -> str:
        """String: the id of the task that is unique under ``dedup_key``; empty if it is claimed (`TaskQueue.claim`)."""
        return f"{{{self.stream}}}:once:{dedup_key}"

    def bulk_job(self, kind: str) -> str:
        """Hash: the last bulk job of a kind (`BulkJobs`). The janitor carries it out."""
        return f"{{{self.stream}}}:job:{kind}"

    def bulk_items(self, kind: str) -> str:
        """Sorted set: the remaining items of that job, if it was given single items."""
        return f"{{{self.stream}}}:job_items:{kind}"
