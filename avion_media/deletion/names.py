"""Names of the deletion room: its keys on Redis, its channels, the ids of its tasks."""

from __future__ import annotations

from avion_media.domain.tasks import DROP_DELETED

NOTICES_GROUP = "media_drops"
UNDELETES = "media_undeletes"
"""Channel: the time of each undelete, so that a listener can order the notices that it receives by it."""
LAST_UNDELETE = f"{{{DROP_DELETED}}}:last_undelete"
"""String: the time of the last undelete, in one cluster slot with the stream of the notices."""


def removal_id(media_id: str, generation: int) -> str:
    """Return the id of the task that removes a medium for one of its deletions."""
    return f"delete-{media_id}.{generation}"


def generation_of(task_id: str, media_id: str) -> int | None:
    """Return which deletion a task belongs to; None for a task that another service queued."""
    start, _, generation = task_id.rpartition(".")
    return int(generation) if start == f"delete-{media_id}" and generation.isdigit() else None
