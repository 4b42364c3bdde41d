"""What moderation has recorded of a media item."""

from __future__ import annotations

from typing import Any

from avion_media.domain.tasks import Status
from avion_media.moderation import Block, ModerationRecords, waits
from avion_media.resources import ResourceSlot
from avion_media.store import ObjectStore


async def moderation_records(
    store: ResourceSlot[ObjectStore], media_id: str, status: Status | None
) -> list[dict[str, Any]]:
    """Return its latest block that was lifted, its review, and its block, each if there is one.

    ``status`` is that on Redis: it shows whether a release is in progress. ``next`` is what an operator can do. Raises
    `Unavailable`.
    """
    records = ModerationRecords(store)
    found: list[dict[str, Any]] = []
    lifted = await records.lifted(media_id)
    if lifted:
        found.append({"record": "lifted", **_of_block(lifted[-1])})
    held = await records.held(media_id)
    if held is not None:
        is_waiting = waits(held, status)
        decide = f"decide: `avion-media review release {media_id}` or `avion-media review block {media_id}`"
        review = {
            "record": "held" if is_waiting else "released",
            "at": held.at,
            "match": held.match,
            "released_at": held.released_at,
            "released_by": held.released_by,
            "next": f"it is held; {decide}" if is_waiting else "",
        }
        found.append({name: value for name, value in review.items() if value})
    block = await records.block(media_id)
    if block is not None:
        unblock = f"it is blocked; to lift the block: `avion-media unblock {media_id}`"
        changing = "its block is not completed yet; the service completes it"
        is_changing = bool(block.lifted_at) or not block.done
        found.append({"record": "blocked", **_of_block(block), "next": changing if is_changing else unblock})
    return found


def _of_block(block: Block) -> dict[str, Any]:
    described = {
        "at": block.at,
        "by": block.by,
        "note": block.note,
        "cause": block.cause,
        "evidence": "kept" if block.keep_evidence else "discarded",
        "entries": [str(each) for each in block.entries],
        "copies": list(block.copies),
        "lifted_at": block.lifted_at,
        "lifted_by": block.lifted_by,
    }
    return {name: value for name, value in described.items() if value}
