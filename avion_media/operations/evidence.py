"""The evidence of a media item as one ZIP archive: files, records, audit entries, and a manifest with their hashes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import read_if_there
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.ids import AnyId, parse_any_id
from avion_media.operations.archive import Pieces
from avion_media.operations.operation import Facts, NoSuchTarget, Order
from avion_media.process.runtime import Runtime

MANIFEST: Final = "manifest.json"
_CHUNK_BYTES: Final = 256 << 10
_MAX_RECORD_BYTES: Final = 4 << 20


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
        for name, key in (("block", keys.block(target)), ("held", f"{keys.HELD_PREFIX}{target}"))
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
