"""One media item as the console shows it: the facts of `avion-media inspect`, with a timeline, oldest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from avion_media.backends.queue import detail_of, reason_of
from avion_media.common import keys
from avion_media.common.errors import Reason
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.media import readable
from avion_media.common.tasks import DELETE_QUEUE, State
from avion_media.items.deletion.records import DeletionState
from avion_media.items.item import Items
from avion_media.items.moderation.evidence import has_preview
from avion_media.operations.inspection import is_unknown, media_report
from avion_media.operations.operation import many
from avion_media.operations.queues import may_be_cancelled
from avion_media.servers.console.wording import advice, meaning, queue_title
from mediathumbs import WEBP_SUFFIX

_ENDINGS: Final = {
    "done": ("good", "done"),
    "rejected": ("bad", "the file was rejected"),
    "dead_letter": ("bad", "given up"),
    "retried": ("warn", "failed, and is retried"),
    "deferred": ("warn", "put off"),
    "lease_lost": ("warn", "another worker took it over"),
}
"""The tone and the words for the end of an attempt."""
_STEPS: Final = {
    "S3.HeadObject": "Look in the store",
    "S3.GetObject": "Read from the store",
    "S3.PutObject": "Write to the store",
    "S3.CopyObject": "Copy in the store",
    "S3.DeleteObject": "Remove from the store",
    "S3.DeleteObjects": "Remove from the store",
    "S3.ListObjectsV2": "List the store",
    "GET": "Fetch from the server",
}
"""The words for a step, by the name of its span. Those in the sandbox begin with ``sandbox``."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the timeline. ``at`` is in ISO 8601."""

    at: str
    tone: str
    title: str
    text: str = ""
    steps: Sequence[Mapping[str, Any]] = ()  # of an attempt: name, title, at_ms, ms
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Item:
    """Everything that is known about one media item."""

    known: Mapping[str, Any]
    facts: Mapping[str, str]  # the status, or what the metadata of its original say
    media_id: str
    state: str
    tone: str
    reason: str
    thumbnails: Sequence[str]  # paths on the origin, smallest first; none of a private media item
    original: str
    timeline: Sequence[Step]
    dead_letters: Sequence[str]  # keys, as in `DeadLetter.key`
    tasks: Sequence[str]  # tasks that can be cancelled, as queue/task id
    can_undelete: bool
    is_blocked: bool
    is_held: bool
    has_notice: bool
    can_delete: bool
    can_process_again: bool

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known except what the id itself contains."""
        return is_unknown(dict(self.known))

    @property
    def moderated(self) -> Mapping[str, str]:
        """The owner or host that the records of moderation name, by what it is."""
        sources = (each.get("source", "").partition("/") for each in self.known["moderation"])
        return {kind: name for kind, _, name in sources if name}

    @property
    def evidence(self) -> Mapping[str, int]:
        """The files that are kept for moderators, with their sizes."""
        prefix = f"{keys.QUARANTINE_PREFIX}{self.media_id}/"
        kept = [each for each in self.known["objects"] if each["key"].startswith(prefix)]
        return {each["key"].removeprefix(prefix): each["bytes"] for each in kept}

    @property
    def has_preview(self) -> bool:
        """Whether a picture of it is kept that moderators may look at."""
        return (self.is_held or self.is_blocked) and has_preview(self.evidence)

    @property
    def is_unsettled(self) -> bool:
        """Whether a task may change it at any moment."""
        return self.state == "Processing" and not self.is_held

    @property
    def size_bytes(self) -> int:
        """The size of all its objects together, in bytes."""
        return sum(each["bytes"] for each in self.known["objects"])


async def read_item(items: Items, any_id: AnyId, *, url_ttl_s: float) -> Item:
    """Return all that is known about a media item. Raises `Unavailable`."""
    known = await media_report(items, any_id, url_ttl_s=url_ttl_s)
    deletion, status = known["deletion"], known["status"] or {}
    is_deleted = deletion is not None and "undeleted_at" not in deletion
    hidden = (keys.INCOMING_PREFIX, keys.QUARANTINE_PREFIX)
    published = [each["key"] for each in known["objects"] if not each["key"].startswith(hidden)]
    recorded = {each["record"] for each in known["moderation"]}
    if not status and "blocked" in recorded:
        status = {"state": State.FAILED, "reason": Reason.BLOCKED}
    elif not status and "held" in recorded and not published:
        status = {"state": State.PROCESSING, "reason": Reason.HELD}
    elif not status and any("failed_at" not in each for each in known["tasks"]):
        status = {"state": State.PROCESSING}
    state = "DELETED" if is_deleted else status.get("state") or ("READY" if published else "")
    sizes = {each.name: each.longest_edge for each in items.sizes}
    names = [key.split("/")[1] for key in published if key.startswith("thumbnail/") and not key.endswith(WEBP_SUFFIX)]
    ordered = sorted(names, key=lambda name: sizes.get(name, 0))
    return Item(
        known,
        {**_stored_facts(known), **status},
        known["media_id"],
        state.replace("_", " ").capitalize() or "Unknown",
        {"READY": "good", "FAILED": "bad", "PROCESSING": "info", "PENDING_UPLOAD": "info"}.get(state, "off"),
        status.get("reason", ""),
        [] if state == "DELETED" or any_id.is_private else list(keys.origin_paths(any_id, ordered).values()),
        keys.original_path(any_id) if state == "READY" and not any_id.is_private else "",
        sorted(_steps(known), key=lambda step: step.at),
        [f"{each['queue']}/{each['entry_id']}" for each in known["tasks"] if "failed_at" in each],
        [
            f"{each['queue']}/{each['task_id']}"
            for each in known["tasks"]
            if "failed_at" not in each and may_be_cancelled(each["queue"])
        ],
        is_deleted and deletion["state"] == DeletionState.MARKED,
        "blocked" in recorded,
        status.get("reason") == Reason.HELD,
        "notice" in recorded,
        not is_deleted and not is_unknown(known),
        state == State.READY and bool(published) and isinstance(any_id, MediaId),
    )


def _stored_facts(known: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the facts that stand at its original, also at one in quarantine."""
    found = (each.get("metadata", {}) for each in known["objects"])
    return readable(next((each for each in found if "type" in each), {}))


def _steps(known: Mapping[str, Any]) -> Iterator[Step]:
    if known.get("requested_at"):
        yield Step(known["requested_at"], "", "Upload requested", f"Declared as {known['declared']}.")
    for each in known["objects"]:
        if each["key"].startswith(keys.INCOMING_PREFIX):
            yield Step(each["last_modified"], "", "Uploaded", "The file waits in incoming/.")
    for attempt in known["attempts"]:
        yield _of_attempt(attempt)
    for event in known["events"]:
        yield _of_event(event)
    is_undone = "undeleted_at" in (known["deletion"] or {})
    for task in known["tasks"]:
        if is_undone and task["queue"] == DELETE_QUEUE and "due_at" in task:
            yield Step(task["due_at"], "", "Due in the delete queue", "It removes nothing: the deletion was undone.")
        else:
            yield from _of_task(task)
    for each in known["moderation"]:
        if "lifted_at" in each:
            by = f"By {each['lifted_by']}" if each.get("lifted_by") else ""
            yield Step(each["lifted_at"], "good", "Unblocked", ": ".join(filter(None, (by, each.get("lifted_note")))))
    deletion = known["deletion"]
    if deletion is not None:
        goes_at = deletion.get("objects_go_at", "")
        yield Step(
            deletion["deleted_at"], "bad", "Deleted", f"Its objects are removed at {goes_at}." if goes_at else ""
        )
        if "undeleted_at" in deletion:
            yield Step(deletion["undeleted_at"], "good", "Undeleted")


def _of_attempt(attempt: Mapping[str, Any]) -> Step:
    tone, ending = _ENDINGS.get(attempt["outcome"], ("warn", attempt["outcome"].replace("_", " ")))
    title = f"Attempt {attempt['number']} of the {queue_title(attempt['queue']).lower()} queue: {ending}"
    reason = meaning(attempt["reason"]) if attempt.get("reason") else ""
    text = f"On {attempt['worker']}, {attempt.get('duration_s', 0.0):.2f} s. {reason}".strip()
    steps = [{**each, "title": _titled(each["name"])} for each in attempt.get("steps", ())]
    return Step(attempt["at"], tone, title, text, steps, attempt.get("duration_s", 0.0))


def _titled(name: str) -> str:
    return "Decode in the sandbox" if name.startswith("sandbox ") else _STEPS.get(name, name)


def _of_event(event: Mapping[str, Any]) -> Step:
    ending = str(event.get("type", "")).rpartition(".")[2]
    reason = str(event.get("reason", ""))
    tone = {"ready": "good", "failed": "bad", "deleted": "bad", "blocked": "bad", "held": "warn"}.get(ending, "")
    text = f"{meaning(reason)} {advice(reason)}" if reason else f"The event {event.get('type', '')} was published."
    return Step(event["at"], tone, ending.capitalize(), text)


def _of_task(task: Mapping[str, Any]) -> Iterator[Step]:
    title = queue_title(task["queue"])
    attempts = f" after {many(task['attempts_used'], 'attempt')}" if task.get("attempts_used") else ""
    error = task.get("error", "")
    if "failed_at" in task:
        text = f"{meaning(reason_of(error))} {detail_of(error)}"
        yield Step(task["failed_at"], "bad", f"Given up{attempts}: a dead letter of the {title.lower()} queue", text)
    elif "due_at" in task:
        yield Step(task["due_at"], "warn", f"Due in the {title.lower()} queue{attempts}", error)
    elif "first_seen" in task:
        paused = f"The queue is paused by {task['queue_paused_by']}." if "queue_paused_by" in task else ""
        by = f"A worker has it: {task['consumer']}." if "consumer" in task else paused or "It waits for a worker."
        yield Step(task["first_seen"], "", f"Queued in the {title.lower()} queue", f"{by} {error}".strip())
