"""Blocked media that have objects again: a worker wrote them that stood still for longer than blocks are watched."""

from __future__ import annotations

from collections.abc import Sequence

from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.records import UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.telemetry import get_logger
from avion_media.items.moderation import ModerationRecords

_log = get_logger()


async def watch_blocked(store: ResourceSlot[ObjectStore], limiter: RateLimiter, stored: Sequence[str]) -> None:
    """Watch the blocks in force of these media, which have objects and are in the order of their ids.

    The origin then answers 451, and the node `moderation` removes the objects. One request for most chunks of media.
    Raises `Unavailable`.
    """
    if not stored:
        return
    records, wanted = ModerationRecords(store), set(stored)
    await limiter.acquire()
    async for page in store.get().list_keys(keys.BLOCK_PREFIX, keys.block(stored[0])[:-1]):
        ids = [key.removeprefix(keys.BLOCK_PREFIX) for key in page]
        for media_id in wanted.intersection(ids):
            await limiter.acquire()
            try:
                block = await records.block(media_id)
            except UnreadableRecord:
                continue  # a process of another version takes care of it
            if block is not None and block.removes:
                _log.warning("sweep.blocked_again", media_id=media_id)
                await records.watch(media_id)
        if ids and ids[-1] >= stored[-1]:
            return
        await limiter.acquire()
