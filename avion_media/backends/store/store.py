"""The object store, as the rest of the service uses it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from avion_media.backends.settings import S3Config
from avion_media.backends.store import bucket
from avion_media.backends.store.connection import Connection
from avion_media.backends.store.errors import RangeNotSatisfiable, TooLarge
from avion_media.backends.store.listing import KeyListing, Listing
from avion_media.backends.store.multipart import MultipartUploads
from avion_media.backends.store.objects import (
    ByteRange,
    BytesSource,
    FileSource,
    ObjectInfo,
    ObjectPart,
    PartRequest,
    PresignedPut,
    PutRequest,
)
from avion_media.backends.store.patch_copy import PatchCopy, of_the_source
from avion_media.backends.store.patch_plan import Part, Patch, check_patches, plan_parts
from avion_media.backends.store.relay import Relay
from avion_media.backends.store.transfer import SeekableBody, head_object
from avion_media.common.concurrency import in_turn
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.telemetry import NO_TELEMETRY, Telemetry

_RANGES_AT_ONCE = 4
_DELETES_PER_REQUEST = 1000  # S3's own bound


@asynccontextmanager
async def open_store(
    config: S3Config, max_calls: int | None = None, telemetry: Telemetry = NO_TELEMETRY, *, watched: bool = True
) -> AsyncIterator[ObjectStore]:
    """Open the store, with at most ``max_calls`` at once (by default ``config.threads``), and as many for visitors.

    Opening only looks for credentials. An unavailable store, or missing credentials, show only in
    `ObjectStore.available`, and as `Unavailable` from each call. The caller must stop using the store before it leaves
    the block. If not ``watched``, only calls notice an outage; `init` uses this, because the bucket might not exist
    yet.
    """
    connection = Connection(config, max_calls or config.threads, telemetry)
    await connection.prepare()
    try:
        async with trio.open_nursery() as nursery:
            if watched:
                nursery.start_soon(connection.watch)
            yield ObjectStore(connection, config.region)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The nursery wraps what the caller's block raises; the watcher itself raises nothing.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        connection.clients.close()


class ObjectStore:
    """Objects in one bucket. Every call can raise `Unavailable`, a state that ends by itself.

    *Reads* return at once if cancelled. *Changes* (`put`, `copy`, `patch_copy`, `delete`) wait for the running request,
    so that nothing is written later: usually milliseconds, with the default timeout at most about 30 s. After a cancel
    it is unknown whether the change was made; all changes can be repeated. Objects appear completely or not at all.
    """

    def __init__(self, connection: Connection, region: str) -> None:
        self._connection = connection
        self._region = region
        self.multipart = MultipartUploads(connection)

    @property
    def connection(self) -> Connection:
        """The connection, for modules of this package."""
        return self._connection

    @property
    def available(self) -> bool:
        """Whether the store responded last time. False until the bucket has responded once."""
        return self._connection.state.is_available

    @property
    def cause(self) -> str:
        """Why the store is unavailable; empty while it is available."""
        return self._connection.state.cause

    @property
    def limiters(self) -> dict[str, trio.CapacityLimiter]:
        """The limiters by their names in telemetry. An abandoned read in a thread counts until it ends."""
        return {"store.calls": self._connection.calls, "store.visitors": self._connection.visitors}

    async def wait_available(self) -> None:
        """Wait until the bucket responds. Returns at once while it does."""
        await self._connection.state.wait_available()

    async def ping(self) -> None:
        """Make a small request. Raises `Unavailable`, also if the bucket does not exist."""
        await self._connection.ping()

    async def ensure_bucket(self, lives: bucket.Lives) -> list[str]:
        """Create what is missing of the bucket, its CORS and its lifecycle rules. Return what that was."""
        return await bucket.ensure_bucket(self._connection, self._region, lives)

    async def missing_lifecycle_rules(self, lives: bucket.Lives) -> list[str]:
        """Return the lifecycle rules of `ensure_bucket` that the bucket lacks."""
        return await bucket.missing_lifecycle_rules(self._connection, lives)

    async def early_expirations(self, incoming_s: float) -> list[str]:
        """Return the lifecycle rules that remove accepted uploads before ``incoming_s``."""
        return await bucket.early_expirations(self._connection, incoming_s)

    # -- reads

    async def head(self, key: str) -> ObjectInfo:
        """Return the facts about one object. Raises `ObjectMissing`, also for one that only its client's key can
        decrypt."""
        return await self._connection.query(
            lambda client: head_object(client, self._connection.bucket, key),
            key,
            operation="HeadObject",
            quick=lambda requests: requests.head(key),
        )

    async def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        try:
            await self.head(key)
        except ObjectMissing:
            return False
        return True

    async def read(
        self, key: str, offset: int = 0, length: int | None = None, *, max_bytes: int, if_match: str | None = None
    ) -> bytes:
        """Return up to ``length`` bytes from ``offset``; fewer at the end of the object, as for a file.

        Raises `ObjectMissing`, `PreconditionFailed` (another etag), `TooLarge` (more than ``max_bytes`` were
        requested).
        """
        if length is not None and length > max_bytes:
            raise TooLarge(key, length, max_bytes)
        if length == 0:
            return b""
        whole = offset == 0 and length is None
        byte_range = None if whole else (offset, None if length is None else offset + length - 1)
        try:
            return bytes((await self.read_part(key, byte_range, max_bytes=max_bytes, if_match=if_match)).data)
        except RangeNotSatisfiable:
            return b""

    async def read_part(
        self,
        key: str,
        byte_range: ByteRange | None = None,
        *,
        max_bytes: int,
        if_match: str | None = None,
    ) -> ObjectPart:
        """Return the object, or a range of it, with its facts. One request, whose body is read to its end.

        Raises `ObjectMissing`, `PreconditionFailed` (another etag), `RangeNotSatisfiable`, `TooLarge` (nothing was
        read).
        """
        part = await self._connection.get(PartRequest(key, byte_range, if_match, max_bytes), for_visitor=True)
        self._connection.received(len(part.data))
        return part

    @property
    def can_relay(self) -> bool:
        """Whether `relay` is possible at the moment."""
        return self._connection.can_relay

    async def relay(self, key: str, first: int, last: int, etag: str, relay: Relay) -> None:
        """Pass on a range of an object, of this version. Returns before its end if the client falls behind.

        Raises `ObjectMissing`, `PreconditionFailed`, `RangeNotSatisfiable`, `Unavailable`. ``relay.sent`` is how far it
        came.
        """
        try:
            wanted = PartRequest(key, (first, last), etag, last - first + 1, relay)
            await self._connection.get(wanted, for_visitor=True)
        finally:
            self._connection.received(relay.taken)

    async def download(self, key: str, fd: int, *, max_bytes: int, if_match: str | None = None) -> ObjectInfo:
        """Write the whole object to the start of the open file ``fd``, by pwrite.

        Raises `ObjectMissing`, `PreconditionFailed`, `TooLarge` (nothing was written), `Unavailable` (the connection
        broke), OSError (of the file). After an error or a cancel the content of the file is undefined.
        """
        part = await self._connection.get(PartRequest(key, None, if_match, max_bytes, file=(fd, 0)))
        self._connection.received(part.info.size_bytes)
        return part.info

    async def read_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], fd: int, *, etag: str | None = None
    ) -> None:
        """Write each ``(offset, length)`` of the object to the same offset of the open file ``fd``, a few concurrently.

        The rest of the file stays a hole. Errors and cancels as for `download`; `RangeNotSatisfiable` if a range begins
        at or after the end.
        """

        async def fetch(offset: int, length: int) -> None:
            byte_range = (offset, offset + length - 1)
            await self._connection.get(PartRequest(key, byte_range, etag, length, file=(fd, offset)))
            self._connection.received(length)

        await in_turn([partial(fetch, *each) for each in ranges if each[1] > 0], _RANGES_AT_ONCE)

    def list(self, prefix: str, start_after: str | None = None, *, page_size: int = 1000) -> Listing:
        """Iterate over pages of the objects under ``prefix``, in the order of their keys.

        ``start_after`` resumes after that key. Each page is one request, made on demand. ``page_size`` is at most 1000.
        """
        return Listing(self._connection, prefix, start_after, page_size)

    def list_keys(self, prefix: str, start_after: str | None = None, *, page_size: int = 1000) -> KeyListing:
        """As `list`, but only keys, for a fraction of the CPU time."""
        return KeyListing(self._connection, prefix, start_after, page_size)

    # -- changes

    async def put(
        self,
        key: str,
        source: bytes | FileSource,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        only_if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write an object of at most 5 GiB, and return its etag. Metadata must be ASCII.

        ``only_if_absent`` raises `PreconditionFailed` if the object exists, ``if_match`` if it has another etag or does
        not exist. If the first response is lost and botocore retries, the existing object can be our own; a caller that
        must know compares it.
        """
        sent = BytesSource(source) if isinstance(source, bytes) else source
        put = PutRequest(key, content_type, dict(metadata or {}), cache_control, only_if_absent, if_match)
        request = {**self._request(key), **_headers(content_type, metadata, cache_control)}
        request |= {name.replace("-", ""): value for name, value in put.condition.items()}

        def by_botocore(client: Any) -> str:
            return str(client.put_object(**request, Body=SeekableBody(sent))["ETag"]).strip('"')

        try:
            etag = await self._connection.change(
                by_botocore, key, operation="PutObject", quick=lambda requests: requests.put(put, sent)
            )
        except ObjectMissing:  # some stores say so instead of 412, if there is no object with this etag
            raise PreconditionFailed(key) from None
        self._connection.sent(sent.size_bytes)
        return etag

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        source_etag: str | None = None,
    ) -> str:
        """Copy an object of at most 5 GiB inside the store, with new type and metadata. Return the new etag.

        Raises `ObjectMissing` (of the source), `PreconditionFailed` (the source has another etag).
        """
        request = {**self._request(target_key), **_headers(content_type, metadata, cache_control)}
        request |= {
            "CopySource": {"Bucket": self._connection.bucket, "Key": source_key},
            "MetadataDirective": "REPLACE",
        }
        if source_etag is not None:
            request["CopySourceIfMatch"] = f'"{source_etag}"'
        response = await self._connection.change(
            lambda client: client.copy_object(**request), source_key, operation="CopyObject"
        )
        return str(response["CopyObjectResult"]["ETag"]).strip('"')

    async def patch_copy(
        self,
        source_key: str,
        target_key: str,
        *,
        size_bytes: int,
        source_etag: str,
        patches: Sequence[Patch],
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        only_if_absent: bool = False,
    ) -> str:
        """Copy an object with some bytes replaced: ``patches`` are ``(offset, bytes)``. Return the new etag.

        Only the changed parts are transferred (at least 5 MiB each); the store copies the rest. ``size_bytes`` and
        ``source_etag`` are those of the source. Raises `ObjectMissing`, `SourceReplaced` (it has another etag now),
        `PreconditionFailed` (with ``only_if_absent``, if the target exists; not every store checks that for parts),
        `ValueError` (patches overlap or are outside). After an error or a cancel the multipart upload is aborted.
        """
        ordered = check_patches(patches, size_bytes)
        parts = plan_parts(size_bytes, ordered)
        copying = PatchCopy(self._connection, source_key, source_etag, target_key, ordered, only_if_absent)
        if only_if_absent and (
            len(parts) > 1 or not ordered
        ):  # Ceph supports this only for plain writes, S3 not for copies
            await self._require_absent(target_key)
        if len(parts) > 1:
            headers = _headers(content_type, metadata, cache_control)
            if all(part.sent for part in parts):
                return await copying.send(parts, headers)
            async with self._held(source_key, source_etag) as (held_key, held_etag):
                return await replace(copying, source_key=held_key, source_etag=held_etag).send(parts, headers)
        if ordered:
            body = await copying.patched_bytes(Part(0, size_bytes, sent=True))
            return await self.put(
                target_key,
                body,
                content_type=content_type,
                metadata=metadata,
                cache_control=cache_control,
                only_if_absent=only_if_absent,
            )
        with of_the_source():
            return await self.copy(
                source_key,
                target_key,
                content_type=content_type,
                metadata=metadata,
                cache_control=cache_control,
                source_etag=source_etag,
            )

    @asynccontextmanager
    async def _held(self, source_key: str, source_etag: str) -> AsyncIterator[tuple[str, str]]:
        """Make a copy of that source that no client can write to, for the time of the block. Yields its key and etag.

        Ceph 18 ignores the condition on the source of an UploadPartCopy, although not that of a CopyObject. So a client
        that can still write to the source could insert other bytes. A crash leaves the copy, which the lifecycle rule
        removes.
        """
        held_key = f"{source_key}.{secrets.token_hex(8)}"
        with of_the_source():
            held_etag = await self.copy(
                source_key, held_key, content_type="application/octet-stream", source_etag=source_etag
            )
        try:
            yield held_key, held_etag
        finally:
            # Shielded, so that a cancelled task does not leave it. Bounded like the abort of its upload.
            with trio.move_on_after(self._connection.max_request_s, shield=True), suppress(Unavailable):
                await self._delete_one(held_key)

    async def _require_absent(self, key: str) -> None:
        if await self.exists(key):
            raise PreconditionFailed(key)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects. Missing ones are not an error. After `Unavailable` some may be left; repeat it."""
        if len(keys) == 1:  # the usual case, at half the CPU: no XML either way
            await self._delete_one(keys[0])
            return
        for first in range(0, len(keys), _DELETES_PER_REQUEST):
            batch = [{"Key": key} for key in keys[first : first + _DELETES_PER_REQUEST]]
            await self._delete_batch({"Objects": batch, "Quiet": True})

    # -- presigned URLs: no I/O

    def presign_put(
        self,
        key: str,
        *,
        content_type: str,
        size_bytes: int,
        expires_s: int,
        now: datetime,
        sha256: bytes | None = None,
        guard: Mapping[str, str] | None = None,
        owner: str = "",
    ) -> PresignedPut:
        """Return a PUT that a client may send until ``now + expires_s``. The store refuses another length, type or
        digest.

        It uses the public address of the store. Temporary credentials that expire earlier end it earlier. ``guard``
        replaces the configured headers against forgeries (`upload_guard`), to test what a store accepts. The object's
        metadata will contain ``owner`` (`owner_of`). Raises `Unavailable` while there are no credentials.
        """
        return self._connection.clients.signers.uploads.put(
            key,
            content_type=content_type,
            size_bytes=size_bytes,
            sha256_digest=sha256,
            expires_s=expires_s,
            now=now,
            guard=self._connection.upload_guard if guard is None else guard,
            owner=owner,
        )

    def presign_get(
        self,
        key: str,
        *,
        expires_s: int,
        now: datetime | None = None,
        content_type: str = "",
        content_disposition: str = "",
    ) -> str:
        """Return a URL that GETs the object until ``expires_s`` after ``now``. Raises `Unavailable` without
        credentials.

        If given, the store sends this content type and disposition instead of the object's own.
        """
        return self._connection.clients.signers.downloads.get(
            key,
            expires_s=expires_s,
            now=now or datetime.now(UTC),
            content_type=content_type,
            content_disposition=content_disposition,
        )

    async def _delete_one(self, key: str) -> None:
        request = self._request(key)
        with suppress(ObjectMissing):
            await self._connection.change(
                lambda client: client.delete_object(**request),
                key,
                operation="DeleteObject",
                quick=lambda requests: requests.delete(key),
            )

    async def _delete_batch(self, batch: dict[str, Any]) -> None:
        request: dict[str, Any] = {"Bucket": self._connection.bucket, "Delete": batch}
        response = await self._connection.change(
            lambda client: client.delete_objects(**request), operation="DeleteObjects"
        )
        failures = [each for each in response.get("Errors", []) if each["Code"] != "NoSuchKey"]
        if failures:
            raise Unavailable(Dependency.OBJECT, f"{len(failures)} objects could not be deleted: {failures[0]}")

    def _request(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._connection.bucket, "Key": key}


def _headers(content_type: str, metadata: Mapping[str, str] | None, cache_control: str | None) -> dict[str, Any]:
    headers: dict[str, Any] = {"ContentType": content_type, "Metadata": dict(metadata or {})}
    if cache_control is not None:
        headers["CacheControl"] = cache_control
    return headers
