"""The object store, as the rest of the service uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import trio

from avion_media.backends.settings import S3Config
from avion_media.backends.store import bucket
from avion_media.backends.store.calls import CALLS, VISITORS, StoreCalls
from avion_media.backends.store.errors import RangeNotSatisfiable, TooLarge
from avion_media.backends.store.facts import headers_of
from avion_media.backends.store.multipart import MultipartUploads
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from trio_redis import run_all
from trio_s3 import (
    META,
    ByteRange,
    BytesSource,
    FileSource,
    ListedObject,
    ListingPage,
    ObjectInfo,
    ObjectPart,
    Pages,
    PartRequest,
    Presigner,
    Relay,
    Requests,
)
from trio_telemetry import NO_TELEMETRY, Telemetry

T = TypeVar("T")
ListPage = Callable[[Requests, str, str, str, int], Awaitable[ListingPage[T]]]

_RANGES_AT_ONCE = 4
_DELETES_PER_REQUEST = 1000  # S3's own bound


@asynccontextmanager
async def open_store(
    config: S3Config, telemetry: Telemetry = NO_TELEMETRY, *, watched: bool = True
) -> AsyncIterator[ObjectStore]:
    """Open the store, with at most ``config.threads`` calls at once, and as many for visitors.

    Opening only looks for credentials. An unavailable store, or missing credentials, show only in
    `ObjectStore.state`, and as `Unavailable` from each call. The caller must stop using the store before it leaves
    the block. If not ``watched``, only calls notice an outage; `init` uses this, because the bucket might not exist
    yet.
    """
    calls = StoreCalls(config, telemetry)
    await calls.prepare()
    try:
        async with trio.open_nursery() as nursery:
            if watched:
                nursery.start_soon(calls.watch)
            yield ObjectStore(calls)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The nursery wraps what the caller's block raises; the watcher itself raises nothing.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        calls.clients.close()


class ObjectStore:
    """Objects in one bucket. Every call can raise `Unavailable`, a state that ends by itself.

    *Reads* return at once if cancelled. *Changes* (`put`, `copy`, `patch_copy`, `delete`) wait for the running request,
    so that nothing is written later: usually milliseconds, with the default timeout at most about 30 s. After a cancel
    it is unknown whether the change was made; all changes can be repeated. Objects appear completely or not at all.
    """

    def __init__(self, calls: StoreCalls) -> None:
        self.calls = calls
        """For modules of this package."""
        self.state = calls.state
        """Whether the store is available."""
        self.multipart = MultipartUploads(calls)
        self.limiters = calls.limiters
        """The limiters by their names in telemetry. An abandoned read in a thread counts until it ends."""

    async def ping(self) -> None:
        """Make a small request. Raises `Unavailable`, also if the bucket does not exist."""
        await self.calls.ping()

    async def ensure_bucket(self, lives: bucket.Lives, media: int = 0) -> list[str]:
        """Create what is missing of the bucket, its CORS and its lifecycle rules. Return what that was.

        Raises `Unavailable` if the bucket does not exist, although it should have ``media`` media items.
        """
        return await bucket.ensure_bucket(self.calls, lives, media)

    async def missing_lifecycle_rules(self, lives: bucket.Lives) -> list[str]:
        """Return the lifecycle rules of `ensure_bucket` that the bucket lacks."""
        return await bucket.missing_lifecycle_rules(self.calls, lives)

    async def early_expirations(self, prefix: str, kept_s: float) -> list[str]:
        """Return the lifecycle rules that remove objects below ``prefix`` before ``kept_s``."""
        return await bucket.early_expirations(self.calls, prefix, kept_s)

    # -- reads

    async def head(self, key: str) -> ObjectInfo:
        """Return the facts about one object. Raises `ObjectMissing`, also for one that only its client's key can
        decrypt."""
        within_s = self.calls.max_request_s
        return await self.calls.send("HeadObject", lambda requests: requests.head(key), key, within_s=within_s)

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
        return await self._get(PartRequest(key, byte_range, if_match, max_bytes), VISITORS)

    @property
    def can_relay(self) -> bool:
        """Whether `relay` is possible at the moment."""
        return self.calls.can_relay

    async def relay(self, key: str, first: int, last: int, etag: str, relay: Relay) -> None:
        """Pass on a range of an object, of this version. Returns before its end if the client falls behind.

        Raises `ObjectMissing`, `PreconditionFailed`, `RangeNotSatisfiable`, `Unavailable`. ``relay.sent`` is how far it
        came.
        """
        await self._get(PartRequest(key, (first, last), etag, last - first + 1, relay), VISITORS)

    async def download(self, key: str, fd: int, *, max_bytes: int, if_match: str | None = None) -> ObjectInfo:
        """Write the whole object to the start of the open file ``fd``, by pwrite.

        Raises `ObjectMissing`, `PreconditionFailed`, `TooLarge` (nothing was written), `Unavailable` (the connection
        broke), OSError (of the file). After an error or a cancel the content of the file is undefined.
        """
        return (await self._get(PartRequest(key, None, if_match, max_bytes, file=(fd, 0)))).info

    async def read_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], fd: int, *, etag: str | None = None
    ) -> None:
        """Write each ``(offset, length)`` of the object to the same offset of the open file ``fd``, a few concurrently.

        The rest of the file stays a hole. Errors and cancels as for `download`; `RangeNotSatisfiable` if a range begins
        at or after the end.
        """

        async def fetch(offset: int, length: int) -> None:
            byte_range = (offset, offset + length - 1)
            await self._get(PartRequest(key, byte_range, etag, length, file=(fd, offset)))

        await run_all([partial(fetch, *each) for each in ranges if each[1] > 0], _RANGES_AT_ONCE)

    async def _get(self, wanted: PartRequest, limiter: str = CALLS) -> ObjectPart:
        """GetObject. A read for a visitor does not wait for the calls of workers. A cancel returns once nothing can
        write to ``wanted.file`` any more."""
        return await self.calls.send("GetObject", lambda requests: requests.get(wanted), wanted.key, limiter=limiter)

    def list(self, prefix: str, start_after: str | None = None, *, page_size: int = 1000) -> Pages[ListedObject]:
        """Iterate over pages of the objects under ``prefix``, in the order of their keys.

        ``start_after`` skips all keys up to and including that one.
        """
        return self._pages(Requests.list_objects, prefix, start_after, page_size)

    def list_keys(self, prefix: str, start_after: str | None = None, *, page_size: int = 1000) -> Pages[str]:
        """As `list`, but only keys, for a fraction of the CPU time."""
        return self._pages(Requests.list_keys, prefix, start_after, page_size)

    def _pages(self, method: ListPage[T], prefix: str, start_after: str | None, page_size: int) -> Pages[T]:
        async def read(token: str) -> ListingPage[T]:
            return await self.calls.send(
                "ListObjectsV2",
                lambda requests: method(requests, prefix, start_after or "", token, page_size),
                within_s=self.calls.max_request_s,
            )

        return Pages(read)

    # -- changes

    async def put(
        self,
        key: str,
        source: bytes | FileSource,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        only_if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write an object of at most 5 GiB, and return its etag. Metadata must be ASCII.

        ``only_if_absent`` raises `PreconditionFailed` if the object exists, ``if_match`` if it has another etag or does
        not exist. If the first response is lost, the request is repeated, and the existing object can be our own; a
        caller that must know compares it.
        """
        sent = BytesSource(source) if isinstance(source, bytes) else source
        signed = {"content-type": content_type, **{f"{META}{name}": each for name, each in (metadata or {}).items()}}
        unsigned = {}
        if if_match is not None:
            unsigned["if-match"] = if_match  # Ceph accepts the etag of a write only without quotes; AWS accepts both
        elif only_if_absent:
            unsigned["if-none-match"] = "*"
        try:
            return await self.calls.send("PutObject", lambda requests: requests.put(key, sent, signed, unsigned), key)
        except ObjectMissing:  # some stores say so instead of 412, if there is no object with this etag
            raise PreconditionFailed(key) from None

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        source_etag: str | None = None,
    ) -> str:
        """Copy an object of at most 5 GiB inside the store, with new type and metadata. Return the new etag.

        Raises `ObjectMissing` (of the source), `PreconditionFailed` (the source has another etag).
        """
        request: dict[str, Any] = {"Bucket": self.calls.bucket, "Key": target_key}
        request |= headers_of(content_type, metadata)
        request |= {
            "CopySource": {"Bucket": self.calls.bucket, "Key": source_key},
            "MetadataDirective": "REPLACE",
        }
        if source_etag is not None:
            request["CopySourceIfMatch"] = f'"{source_etag}"'
        response = await self.calls.change("CopyObject", lambda client: client.copy_object(**request), source_key)
        return str(response["CopyObjectResult"]["ETag"]).strip('"')

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects. Missing ones are not an error. After `Unavailable` some may be left; repeat it."""
        if len(keys) == 1:  # the usual case, at half the CPU: no XML either way
            with suppress(ObjectMissing):
                await self.calls.send("DeleteObject", lambda requests: requests.delete(keys[0]), keys[0])
            return
        for first in range(0, len(keys), _DELETES_PER_REQUEST):
            batch = [{"Key": key} for key in keys[first : first + _DELETES_PER_REQUEST]]
            await self._delete_batch({"Objects": batch, "Quiet": True})

    # -- presigned URLs: no I/O

    @property
    def uploads(self) -> Presigner:
        """Signs the uploads of clients. Raises `Unavailable` while there are no credentials."""
        return self.calls.clients.signers.uploads

    @property
    def downloads(self) -> Presigner:
        """Signs URLs that clients read. Raises `Unavailable` while there are no credentials."""
        return self.calls.clients.signers.downloads

    async def _delete_batch(self, batch: dict[str, Any]) -> None:
        request: dict[str, Any] = {"Bucket": self.calls.bucket, "Delete": batch}
        response = await self.calls.change("DeleteObjects", lambda client: client.delete_objects(**request))
        failures = [each for each in response.get("Errors", []) if each["Code"] != "NoSuchKey"]
        if failures:
            raise Unavailable(Dependency.OBJECT, f"{len(failures)} objects could not be deleted: {failures[0]}")
