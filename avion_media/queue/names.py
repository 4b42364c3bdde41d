"""Names on Redis (docs/contract.md, section 4), and those of this service. The braces are literal: one cluster slot."""

from __future__ import annotations

from dataclasses import dataclass

from avion_media.domain.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE, PURGE_QUEUE

# Without these a task of that queue cannot be done by anybody.
REQUIRED_FIELDS = {
    PROCESSING_QUEUE: ("media_id",),
    CACHE_QUEUE: ("remote_url",),
    DELETE_QUEUE: ("media_id",),
    PURGE_QUEUE: ("media_id",),
}

# A deletion must be done: neither its age nor the crashes of its workers end it. It touches nothing that a stranger
# made, so a worker crashes with it by chance.
NEVER_GIVEN_UP = frozenset({DELETE_QUEUE, PURGE_QUEUE})

# How long a task that has ended still answers for a second request. For uploads, a minute, since a late caller must not
# have the medium processed anew. Whether a remote medium is to be fetched anew is decided by what is known of it.
# A purge may be asked for again at once: what was deleted, restored and deleted again.
MARKER_LINGERS_S = {CACHE_QUEUE: 0.0, PURGE_QUEUE: 0.0}
DEFAULT_MARKER_LINGERS_S = 60.0


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
    def state(self) -> str:
        """Hash: accounts of fair dispatch, and what is known of workers and of losses.

        ``turn``: virtual time. ``entry:<entry>``: the tenant of an entry of the stream. ``running:<tenant>``: how
        many of them a tenant has. ``videos``: how many of them are videos. ``turn:<tenant>``: the next turn of a
        tenant that has none for now. ``number``: numbers waiting tasks. ``tenant_cap``, ``video_cap``: bounds.
        ``paused``: since when. ``cancelled:<task>``: who cancelled it. ``cursor``: how far the janitor has compared
        accounts with the stream. ``since``, ``last``: since when, and when last, there was a janitor. ``run_id``,
        ``lost``: see `TaskQueue.loss`.
        """
        return f"{{{self.stream}}}:state"

    @property
    def waiting(self) -> str:
        """Sorted set: the backlog, ordered by tenant and age."""
        return f"{{{self.stream}}}:waiting"

    @property
    def tenants(self) -> str:
        """Sorted set: tenants with waiting tasks, by the virtual time of their next turn."""
        return f"{{{self.stream}}}:tenants"

    @property
    def janitor(self) -> str:
        """String with an expiry: how many consumers the queue has, and which process moves tasks that are due, too many
        or abandoned."""
        return f"{{{self.stream}}}:janitor"

    @property
    def dispatch(self) -> tuple[str, str, str, str]:
        """The first keys of every script that moves tasks."""
        return self.stream, self.state, self.waiting, self.tenants

    def marker(self, once_key: str) -> str:
        """String: the id of the task that is unique under ``once_key``."""
        return f"{{{self.stream}}}:once:{once_key}"

    def bulk_job(self, kind: str) -> str:
        """Hash: the last job of a kind that the janitor works off: see `BulkJobs`."""
        return f"{{{self.stream}}}:job:{kind}"

    def bulk_items(self, kind: str) -> str:
        """Sorted set: what that job has still to work on, where it was named one by one."""
        return f"{{{self.stream}}}:job_items:{kind}"
