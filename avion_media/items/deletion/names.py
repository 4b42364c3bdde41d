"""Names of this package: its keys on Redis, its channels, the ids of its tasks."""

from __future__ import annotations

from avion_media.common.ids import ALPHABET
from avion_media.common.tasks import DROP_DELETED

NOTICES_GROUP = "media_drops"
UNDELETES = "media_undeletes"
"""Channel: the time of each undelete. Listeners use it to order the notices that they receive."""
LAST_UNDELETE = f"{{{DROP_DELETED}}}:last_undelete"
"""String: the time of the last undelete, in one cluster slot with the stream of the notices."""


_HEX = "0123456789abcdef"  # remote media are named by a hash
BUCKETS = tuple(sorted({first + second for digits in (ALPHABET, _HEX) for first in digits for second in digits}))
"""The last two characters of all ids. Here a *bucket* is the set of ids with the same two, not a bucket of the object
store. Its records are in one cluster slot."""


def complete_key(bucket: str) -> str:
    """Hash: the server process that has all records of a bucket. See `JournalReplay`."""
    return f"media_deletions_complete:{{{bucket}}}"


def completeness_of(media_id: str) -> str:
    """Return `complete_key` of the bucket that a media item is in."""
    return complete_key(media_id[-2:])


def removal_id(media_id: str, generation: int) -> str:
    """Return the id of the task that removes a media item for one of its deletions."""
    return f"delete-{media_id}.{generation}"


def generation_of(task_id: str, media_id: str) -> int | None:
    """Return the generation of a task's deletion; None for a task that another service queued."""
    start, _, generation = task_id.rpartition(".")
    return int(generation) if start == f"delete-{media_id}" and generation.isdigit() else None
