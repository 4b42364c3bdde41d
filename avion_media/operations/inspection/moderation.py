"""What moderation has recorded of a media item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from avion_media.backends.store import ObjectStore
from avion_media.common.records import UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import Status
from avion_media.items.moderation import Block, ModerationRecords, waits

_UNREADABLE: Final = "this version cannot read its record; use the version of the service that wrote it"


async def moderation_records(
    store: ResourceSlot[ObjectStore], media_id: str, status: Status | None
) -> list[dict[str, Any]]:
    """Return its latest block that was lifted, its review, and its block, each if there is one.

    ``status`` is that on Redis: it shows whether a release is in progress. ``next`` is what an operator can do. Raises
    `Unavailable`.
    """
    records = ModerationRecords(store)
    found: list[dict[str, Any]] = []
    block, held = None, None
    try:
        block = await records.block(media_id)
        found += [
            {"record": "lifted", **_shown(asdict(each))} for each in (block.ended()[-1:] if block is not None else ())
        ]
    except UnreadableRecord as error:
        found.append({"record": "blocked", "unreadable": error.why, "next": _UNREADABLE})
    try:
        held = await records.held(media_id)
    except UnreadableRecord as error:
        found.append({"record": "held", "unreadable": error.why, "next": _UNREADABLE})
    if held is not None:
        is_waiting = waits(status)
        decide = f"decide: `avion-media review release {media_id}` or `avion-media review block {media_id}`"
        review = {
            "record": "held" if is_waiting else "released",
            "at": held.at,
            "match": held.match,
            "next": f"it is held; {decide}" if is_waiting else "",
        }
        found.append(_shown(review))
    if block is not None and block.in_force:
        unblock = f"it is blocked; to lift the block: `avion-media unblock {media_id}`"
        changing = "its block is not completed yet; the service completes it"
        found.append({"record": "blocked", **_of_block(block), "next": unblock if block.settled else changing})
    return found


def _of_block(block: Block) -> dict[str, Any]:
    described = {
        "state": block.state,
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
    return _shown(described)


def _shown(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if value}
