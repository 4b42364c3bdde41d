"""Names on Redis (docs/contract.md, section 4), and those of this service. The braces are literal: one cluster slot."""

from __future__ import annotations

from dataclasses import dataclass

from avion_media.domain.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE, PURGE_QUEUE

# The consumer that holds what was handed back. No process reads under this name.
SHELF = "-handed-back-"

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
    def watch(self) -> str:
        """Hash: since when, and when last, somebody could renew leases."""
        return f"{{{self.stream}}}:watch"

    def marker(self, once_key: str) -> str:
        """String: the id of the task that is unique under ``once_key``."""
        return f"{{{self.stream}}}:once:{once_key}"


STATUS_CHANGES = "media_status"
"""Channel: the id of a medium whose status changed."""


def beside(kind: str, media_id: str) -> str:
    """Return a key of one medium.

    What is known of one medium lies in one cluster slot. A thousandth of all media, those with the same last two
    characters, share it, so that scripts can work on batches.
    """
    return f"{kind}:{{{media_id[-2:]}}}{media_id}"


def status_key(media_id: str) -> str:
    """String: the status of a medium."""
    return beside("media_status", media_id)


def deletion_key(media_id: str) -> str:
    """Hash: the record of its deletion."""
    return beside("media_deletion", media_id)
