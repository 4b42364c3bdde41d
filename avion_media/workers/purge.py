"""``media_purge_queue``: purge deleted media from the CDN. Off unless there is one (`CdnConfig.purges`).

It is a queue of its own, so that an unavailable CDN delays no deletion, and purges are retried until they succeed.
"""

from __future__ import annotations

from avion_media.common.ids import parse_any_id
from avion_media.common.keys import credentials_path, origin_paths
from avion_media.common.media import in_all_formats, parse_size_names
from avion_media.common.tasks import EnsureLease, Task, TaskHandler, id_of
from avion_media.items.item import PURGED_SIZES, Items
from avion_media.workers.cdn import Cdn


class PurgeMedia(TaskHandler):
    """See `TaskHandler`. Repeating a purge is harmless."""

    def __init__(self, items: Items, cdn: Cdn) -> None:
        self._items = items
        self._cdn = cdn
        self._configured = in_all_formats(size.name for size in items.sizes)

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        """Purge every path of the media item. Raises `Unavailable` if one request failed."""
        any_id = id_of(task, parse_any_id)
        named = parse_size_names(task.fields.get(PURGED_SIZES, ""))
        sizes = dict.fromkeys((*self._configured, *named))
        await self._cdn.purge([f"/media/{any_id}", credentials_path(any_id), *origin_paths(any_id, sizes).values()])
        if not named:  # last, so that an unavailable store delays no other path
            found = await self._items.published(any_id)
            more = [] if found is None else [size for size in found.facts.thumbnails if size not in sizes]
            await self._cdn.purge(origin_paths(any_id, more).values())
