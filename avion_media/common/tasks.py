"""Tasks and the states of media items (docs/contract.md, section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from avion_media.common.errors import Reason, Rejected
from avion_media.common.ids import InvalidId, UnknownFormat
from avion_media.common.media import MediaFacts, is_owner

PROCESSING_QUEUE = "media_processing_queue"
CACHE_QUEUE = "media_cache_queue"
KIND = "kind"
"""Field of a task on `CACHE_QUEUE`: the kind of the remote file; without it, or an unknown one: attachment."""
REGENERATE = "regenerate"
"""Field of a task that this service adds: make the thumbnails of the public original again.

Two attempts that write at the same time can leave the original of one and thumbnails of the other. `ALWAYS`: an
operator asks for it.
"""
ALWAYS = "always"
DELETE_QUEUE = "media_delete_queue"
PURGE_QUEUE = "media_purge_queue"
WEBHOOK_QUEUE = "media_webhook_queue"
CONSUMER_GROUP = "media_workers"
EVENTS_STREAM = "media_events"
DROP_DELETED = "drop_deleted"


@dataclass(frozen=True, slots=True)
class Queue:
    """What differs from queue to queue.

    ``title`` is what operators call it, and ``late`` is what people notice while its tasks wait. No worker can do a
    task without the fields ``required``. Other services may add tasks to a queue that is ``public``, as in the
    contract. ``dedup_ttl_s``: how long a dedup marker outlives its task.

    ``gives_up`` is false where each task must be carried out: neither its age nor crashes of its workers end it. Such
    a task must not read untrusted content, so that it cannot cause crashes.
    """

    name: str
    title: str
    late: str
    required: tuple[str, ...] = ("media_id",)
    public: bool = False
    gives_up: bool = True
    dedup_ttl_s: float = 60.0


QUEUES: Final = {
    each.name: each
    for each in (
        Queue(  # for a minute more, so that a late second call does not process the upload again
            PROCESSING_QUEUE,
            "Processing",
            "Uploads stay in PROCESSING for that long. Nothing is lost.",
            public=True,
        ),
        Queue(
            CACHE_QUEUE,
            "Cache",
            "New copies of remote media arrive late. Uploads and the origin work normally.",
            required=("remote_url",),
            public=True,
            dedup_ttl_s=0.0,  # what is remembered of a URL decides whether it is fetched again
        ),
        Queue(
            DELETE_QUEUE,
            "Delete",
            "Objects of deleted media are removed late. The media already answer 410.",
            public=True,
            gives_up=False,
        ),
        Queue(  # without a CDN it has no readers
            PURGE_QUEUE,
            "Purge",
            "The CDN can still serve media that were deleted. The origin already answers 410.",
            gives_up=False,
            dedup_ttl_s=0.0,  # a media item can be deleted, undeleted and deleted again at once
        ),
        Queue(  # for an hour more, as long as the service itself remembers that it has published an event
            WEBHOOK_QUEUE,
            "Webhooks",
            "Endpoints of webhooks receive events late.",
            required=("endpoint", "event"),
            dedup_ttl_s=3600.0,
        ),
    )
}
"""All queues by name, in the order in which operators see them."""


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


class TaskHandler:
    """One kind of task. Each method may be called again for the same task, and then has the same result."""

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        """Do the work. `avion_media.workers.decision` has the table of errors.

        Another attempt may overtake one whose process stood still for long. So ``run`` calls ``ensure_lease`` before
        its first write that readers can see.
        """
        raise NotImplementedError

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        """Record that the task ended for ``reason``: status, event, leftovers; nothing where clients see no status.
        ``is_file_suspect``: clients should not try the same file again, whatever the reason."""

    async def renew_status(self, task: Task) -> None:
        """Renew the status that clients see, if there is one, because the task will be retried."""


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
