"""Tasks and the states of media items (docs/contract.md, section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from avion_media.common.errors import Reason, Rejected
from avion_media.common.ids import InvalidId, UnknownFormat
from avion_media.common.media import MediaFacts, is_owner

PROCESSING_QUEUE = "media_processing_queue"
CACHE_QUEUE = "media_cache_queue"
DELETE_QUEUE = "media_delete_queue"
PUBLIC_QUEUES = (PROCESSING_QUEUE, CACHE_QUEUE, DELETE_QUEUE)
"""The queues of the contract: other services may add tasks."""
PURGE_QUEUE = "media_purge_queue"
"""The queue of CDN purges, only for this service. Without a CDN it has no readers."""
QUEUES = (*PUBLIC_QUEUES, PURGE_QUEUE)
"""All queues, as operators see them."""
CONSUMER_GROUP = "media_workers"
EVENTS_STREAM = "media_events"
DROP_DELETED = "drop_deleted"


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work on a queue. ``fields`` are the contract's fields of that queue, without ``task_id``."""

    task_id: str
    fields: dict[str, str]
    traceparent: str = ""

    @property
    def subject(self) -> str:
        """The media id, the hash of a remote media item, or its URL, as the producer wrote it."""
        return self.fields.get("media_id") or self.fields.get("remote_url", "")


def processing_fields(media_id: str, owner: str = "") -> dict[str, str]:
    """Return the fields of a task on `PROCESSING_QUEUE`.

    ``owner`` decides when the task has its turn. The upload itself names its owner; the owner in a task counts only if
    the upload names none.
    """
    fields = {"media_id": media_id, "type": "thumbnail"}
    return {**fields, "owner": owner} if owner else fields


def owner_in(task: Task) -> str:
    """Return the owner that a task names; empty if it names none."""
    owner = task.fields.get("owner", "")
    return owner if is_owner(owner) else ""


_Id = TypeVar("_Id")


def id_of(task: Task, parse: Callable[[str], _Id]) -> _Id:
    """Return the id in a task, read by ``parse``. Another service may have written anything.

    Raises `UnknownFormat` like ``parse``, and `Rejected` (MALFORMED_TASK) if ``parse`` raises another `InvalidId`.
    """
    try:
        return parse(task.fields.get("media_id", ""))
    except UnknownFormat:
        raise
    except InvalidId as error:
        raise Rejected(Reason.MALFORMED_TASK, str(error)) from None


EnsureLease = Callable[[], Awaitable[None]]
"""Extends the lease of this attempt. Raises `LeaseLost` if another worker owns the task now."""


class State(StrEnum):
    """`MediaStatus.State` of the wire, without its numbers."""

    PENDING_UPLOAD = "PENDING_UPLOAD"
    PROCESSING = "PROCESSING"
    READY = "READY"
    FAILED = "FAILED"
    DELETED = "DELETED"

    @property
    def final(self) -> bool:
        """Whether the stream of a watcher ends with this state."""
        return self in (State.READY, State.FAILED, State.DELETED)


@dataclass(frozen=True, slots=True)
class Status:
    """What a client receives about one media item."""

    media_id: str
    state: State
    reason: Reason | None = None
    retryable: bool = False
    facts: MediaFacts | None = None
    thumbnails: dict[str, str] = field(default_factory=dict)  # size name -> origin path
