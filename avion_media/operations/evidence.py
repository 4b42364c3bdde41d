"""What moderators do with evidence.

An export is one ZIP archive: files, records, audit entries, and a manifest with the hash of each.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import read_if_there
from avion_media.common import keys
from avion_media.common.clock import read_time, utc_now
from avion_media.common.credentials import EVIDENCE
from avion_media.common.ids import AnyId, id_or_none, parse_any_id
from avion_media.common.media import possible_sizes
from avion_media.common.records import UnreadableRecord
from avion_media.items.moderation import NoNotice, Notice
from avion_media.items.moderation.evidence import Evidence, Kept
from avion_media.operations.archive import Pieces
from avion_media.operations.operation import Facts, InvalidTarget, NoSuchTarget, NotAllowed, Order, Refused
from avion_media.process.runtime import Runtime

MANIFEST: Final = "manifest.json"
MAX_LISTED: Final = 10_000
_CHUNK_BYTES: Final = 256 << 10
_MAX_RECORD_BYTES: Final = 4 << 20


async def listed(evidence: Evidence, after: str = "", count: int = MAX_LISTED) -> list[dict[str, Any]]:
    """Return what is kept, behind this media id, in the order of ids: at most ``count`` media. Raises `Unavailable`."""
    found: list[dict[str, Any]] = []
    async for kept in evidence.all(after):
        found.append(await _described(evidence, kept))
        if len(found) == count:
            break
    return found


async def shown(evidence: Evidence, any_id: AnyId) -> dict[str, Any] | None:
    """Return what is kept of a media item; None if nothing is. Raises `Unavailable`."""
    kept = await evidence.kept(any_id)
    return None if kept is None else await _described(evidence, kept)


async def _described(evidence: Evidence, kept: Kept) -> dict[str, Any]:
    known: dict[str, Any] = {"media_id": kept.media_id, "size_bytes": kept.size_bytes, "files": dict(kept.files)}
    any_id = id_or_none(kept.media_id)
    if any_id is None:
        return known
    try:
        record = await evidence.record(any_id)
    except UnreadableRecord as error:
        return known | {"unreadable": error.why}
    return known | ({} if record is None else asdict(record))


async def hold(runtime: Runtime, order: Order, target: str) -> Facts:
    """Record a report, and keep the files at least until ``order.until``. What is published is copied first.

    Unless it is blocked, moderators find it in their list until they decide.
    """
    any_id, moderation = parse_any_id(target), runtime.moderation
    now = utc_now()
    try:
        until = read_time(order.until) if order.until else now
    except ValueError:
        raise InvalidTarget(f"{order.until} is not a date or time in ISO 8601") from None
    if not order.note:
        raise InvalidTarget("a hold needs the text of the report")
    async with moderation.blocking.claimed(any_id):
        is_blocked = await moderation.records.is_blocked(target)
        if not is_blocked:
            await moderation.evidence.keep(any_id, possible_sizes(runtime.items.sizes))
        if not await moderation.evidence.files(any_id):
            raise NoSuchTarget("it has no files that could be kept")
        record = await moderation.evidence.hold(any_id, now, until, order.note, order.who.name)
        if not is_blocked:
            notice = Notice(target, record.reported_at, order.note, order.who.name, order.requested_at)
            await moderation.records.write_notice(notice)
    return {"kept_until": record.kept_until}


async def discard(runtime: Runtime, order: Order, target: str) -> None:
    """Remove the evidence of a media item. Before its time, that needs a right and a reason. Raises `NotAllowed`."""
    any_id, moderation = parse_any_id(target), runtime.moderation
    async with moderation.blocking.claimed(any_id):
        kept = await moderation.evidence.kept(any_id)
        if kept is None:
            raise NoSuchTarget("nothing is kept of it")
        held, block = await moderation.records.held(target), await moderation.records.block(target)
        if held is not None:
            raise Refused("it waits for a moderator: release or block it first")
        if block is not None and not block.settled:
            raise Refused("its block is being changed: try again in a moment")
        if not await moderation.evidence.is_over(any_id, kept, utc_now()):
            _require_early(order)
        if block is not None and block.in_force:
            await moderation.records.change(block, discard_evidence=True)
        await moderation.evidence.remove(any_id)


def _require_early(order: Order) -> None:
    """Raise `NotAllowed` or `Refused` unless the person may discard evidence before its time, and says why."""
    if not order.who.may_discard:
        raise NotAllowed(f"to discard evidence before its time needs the right {EVIDENCE}")
    if not order.note:
        raise Refused("to discard evidence before its time needs a reason")


async def dismiss(runtime: Runtime, _order: Order, target: str) -> None:
    """End a notice: moderators do not block the media item. Its evidence stays."""
    try:
        await runtime.moderation.reviews.dismiss(parse_any_id(target))
    except NoNotice:
        raise Refused("there is no notice about it") from None


async def collect(runtime: Runtime, order: Order, target: str) -> Facts:
    """Return the archive as ``pieces``, an iterator of bytes. With ``order.save_to`` write it to that file instead.

    The archive holds one chunk in memory. Its reading raises `Unavailable` or `PreconditionFailed`; an archive that
    ends early has no manifest.
    """
    any_id, moderation = parse_any_id(target), runtime.moderation
    store = runtime.items.store.get()
    files = sorted(await moderation.evidence.files(any_id))
    records = {
        f"records/{name}.json": record
        for name, key in (
            ("block", keys.block(target)),
            ("held", f"{keys.HELD_PREFIX}{target}"),
            ("notice", f"{keys.NOTICE_PREFIX}{target}"),
        )
        if (record := await read_if_there(store, key, max_bytes=_MAX_RECORD_BYTES)) is not None
    }
    if not files and not records:
        raise NoSuchTarget("nothing is kept of it")
    records["records/entry.json"] = _json(_entry_of(records))
    actions = await runtime.audit.find(target)
    records["records/audit.json"] = _json([each.document() for each in actions])
    pieces = _write(store, any_id, files, records, order.who.name)
    if order.save_to is None:
        return {"pieces": pieces}
    with order.save_to.open("xb") as file:
        async for piece in pieces:
            file.write(piece)
    return {"file": str(order.save_to)}


async def _write(
    store: ObjectStore, any_id: AnyId, files: Sequence[str], records: Mapping[str, bytes], made_by: str
) -> AsyncIterator[bytes]:
    pieces, contents, now = Pieces(), [], utc_now()
    with zipfile.ZipFile(pieces, "w") as archive:  # type: ignore[call-overload]  # it needs no more than `Pieces` has

        def entry(name: str) -> zipfile.ZipInfo:
            return zipfile.ZipInfo(name, now.timetuple()[:6])

        for name in files:
            digest, size_bytes = hashlib.sha256(), 0
            with archive.open(entry(f"evidence/{name}"), "w", force_zip64=True) as file:
                async for chunk in _chunks(store, keys.evidence(any_id, name)):
                    file.write(chunk)
                    digest.update(chunk)
                    size_bytes += len(chunk)
                    yield pieces.take()
            contents.append({"name": f"evidence/{name}", "size_bytes": size_bytes, "sha256": digest.hexdigest()})
        for name, record in records.items():
            archive.writestr(entry(name), record)
            sha256 = hashlib.sha256(record).hexdigest()
            contents.append({"name": name, "size_bytes": len(record), "sha256": sha256})
        manifest = {"media_id": str(any_id), "made_at": now.isoformat(), "made_by": made_by, "files": contents}
        archive.writestr(entry(MANIFEST), _json(manifest))
    yield pieces.take()


async def _chunks(store: ObjectStore, key: str) -> AsyncIterator[bytes]:
    info = await store.head(key)
    for offset in range(0, info.size_bytes, _CHUNK_BYTES):
        yield await store.read(key, offset, _CHUNK_BYTES, max_bytes=_CHUNK_BYTES, if_match=info.etag)


def _entry_of(records: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the entry of a list that the media item resembles, or what else held or blocked it."""
    found: dict[str, Any] = {}
    for record in map(json.loads, records.values()):
        found |= {name: record[name] for name in ("entry", "matched", "match", "cause") if record.get(name)}
    return found


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
