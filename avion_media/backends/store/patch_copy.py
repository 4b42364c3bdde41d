"""Copies an object with some bytes replaced: a multipart upload of the parts that `plan_patched_copy` names."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import trio

from avion_media.backends.store.errors import UploadMissing
from avion_media.backends.store.store import ObjectStore
from avion_media.common.errors import Dependency, MediaError, PreconditionFailed, SourceReplaced, Unavailable
from trio_redis import run_all
from trio_s3 import PartRequest, Patch, PlannedPart, patched, plan_patched_copy
from trio_telemetry import get_logger

_PARTS_AT_ONCE = 4  # each sent part is in memory, so this limits memory to a little over 64 MiB
_log = get_logger()


async def patch_copy(
    store: ObjectStore,
    source_key: str,
    target_key: str,
    *,
    size_bytes: int,
    source_etag: str,
    patches: Sequence[Patch],
    content_type: str,
    metadata: Mapping[str, str] | None = None,
    only_if_absent: bool = False,
) -> str:
    """Copy an object with some bytes replaced: ``patches`` are ``(offset, bytes)``, in order. Return the new etag.

    Only the changed parts are transferred (at least 5 MiB each); the store copies the rest. ``size_bytes`` and
    ``source_etag`` are those of the source. Raises `ObjectMissing`, `SourceReplaced` (it has another etag now),
    `PreconditionFailed` (with ``only_if_absent``, if the target exists; not every store checks that for parts). After
    an error or a cancel the multipart upload is aborted. The patches must lie inside the object, and apart.
    """
    headers: dict[str, Any] = {"content_type": content_type, "metadata": metadata}
    parts = plan_patched_copy(size_bytes, patches)
    copying = _PatchCopy(store, source_key, source_etag, target_key, patches, headers, only_if_absent)
    if patches and len(parts) == 1:
        body = await copying.patched_bytes(PlannedPart(0, size_bytes, sent=True))
        return await store.put(target_key, body, only_if_absent=only_if_absent, **headers)
    # Ceph supports the condition on the target only for plain writes, S3 not for copies.
    if only_if_absent and await store.exists(target_key):
        raise PreconditionFailed(target_key)
    if len(parts) > 1:
        return await copying.join(parts)
    with _of_the_source():
        return await store.copy(source_key, target_key, source_etag=source_etag, **headers)


@dataclass(frozen=True, slots=True)
class _PatchCopy:
    """Writes ``source_key`` (with ``source_etag``) to ``target_key`` in parts, with patches applied.

    ``headers`` are the arguments of `ObjectStore.put` for the new object.
    """

    store: ObjectStore
    source_key: str
    source_etag: str
    target_key: str
    patches: Sequence[Patch]
    headers: Mapping[str, Any]
    only_if_absent: bool

    async def join(self, parts: Sequence[PlannedPart]) -> str:
        """Write the new object from several parts, and return its etag. After an error or a cancel nothing is left."""
        if all(part.sent for part in parts):
            return await self._upload(parts)
        async with self._held_source() as held:
            return await held._upload(parts)

    @asynccontextmanager
    async def _held_source(self) -> AsyncIterator[_PatchCopy]:
        """Make a copy of the source that no client can write to, for the time of the block. Yield this with it.

        Ceph 18 ignores the condition on the source of an UploadPartCopy, although not that of a CopyObject. So a client
        that can still write to the source could insert other bytes. A crash leaves the copy, which the lifecycle rule
        removes.
        """
        held_key = f"{self.source_key}.{secrets.token_hex(8)}"
        with _of_the_source():
            held_etag = await self.store.copy(
                self.source_key, held_key, content_type="application/octet-stream", source_etag=self.source_etag
            )
        try:
            yield replace(self, source_key=held_key, source_etag=held_etag)
        finally:
            # Shielded, so that a cancelled task does not leave it. Bounded like the abort of its upload.
            with trio.move_on_after(self.store.calls.max_request_s, shield=True), suppress(Unavailable):
                await self.store.delete([held_key])

    async def _upload(self, parts: Sequence[PlannedPart]) -> str:
        uploads = self.store.multipart
        upload_id = await uploads.create(self.target_key, **self.headers)
        writing = [
            partial(self._send if part.sent else self._copy, upload_id, number, part)
            for number, part in enumerate(parts, start=1)
        ]
        try:
            etags = dict(enumerate(await run_all(writing, _PARTS_AT_ONCE), start=1))
            return await uploads.complete(self.target_key, upload_id, etags, only_if_absent=self.only_if_absent)
        except UploadMissing:  # it vanished, or the reply to its completion was lost: all of this can be repeated
            raise Unavailable(Dependency.STORE, f"the upload to {self.target_key} is gone") from None
        except BaseException:
            # Shielded, since a cancelled task must not leave its parts; bounded by the deadline for the wait and by
            # `StoreCalls.max_request_s` for a request that has begun. If it fails, the bucket's lifecycle rule does it.
            with trio.move_on_after(self.store.calls.max_request_s, shield=True):
                try:
                    await uploads.abort(self.target_key, upload_id)
                except MediaError as error:
                    _log.warning("store.abort_failed", key=self.target_key, detail=str(error))
            raise

    async def _copy(self, upload_id: str, number: int, part: PlannedPart) -> str:
        calls = self.store.calls
        request = {
            **self._part(upload_id, number),
            "CopySource": {"Bucket": calls.bucket, "Key": self.source_key},
            "CopySourceRange": f"bytes={part.start}-{part.end - 1}",
            "CopySourceIfMatch": f'"{self.source_etag}"',
        }
        with _of_the_source():
            response = await calls.change(
                "UploadPartCopy", lambda client: client.upload_part_copy(**request), self.source_key
            )
        return str(response["CopyPartResult"]["ETag"]).strip('"')

    async def _send(self, upload_id: str, number: int, part: PlannedPart) -> str:
        request = {**self._part(upload_id, number), "Body": await self.patched_bytes(part)}
        response = await self.store.calls.change(
            "UploadPart", lambda client: client.upload_part(**request), self.target_key
        )
        return str(response["ETag"]).strip('"')

    async def patched_bytes(self, part: PlannedPart) -> bytes:
        """Return the bytes of one part of the new object. Bytes of the source that no patch replaces are fetched."""
        for offset, data in self.patches:
            if offset <= part.start and part.end <= offset + len(data):
                return data[part.start - offset : part.end - offset]
        wanted = PartRequest(self.source_key, (part.start, part.end - 1), self.source_etag, part.size_bytes)
        with _of_the_source():
            base = await self.store.calls.send("GetObject", lambda requests: requests.get(wanted), self.source_key)
        return patched(bytes(base.data), part.start, self.patches)

    def _part(self, upload_id: str, number: int) -> dict[str, Any]:
        target = {"Bucket": self.store.calls.bucket, "Key": self.target_key}
        return {**target, "UploadId": upload_id, "PartNumber": number}


@contextmanager
def _of_the_source() -> Iterator[None]:
    """Convert a failed condition on the source, so that it is not taken for one on the target."""
    try:
        yield
    except PreconditionFailed as error:
        raise SourceReplaced(*error.args) from error
