"""Multipart uploads that clients send: made, signed, listed, completed and aborted here.

All of its state is in the store, so no replica has to remember anything. `examine_part_urls` tests once whether clients
may have URLs for parts: a store that obeys ``x-amz-copy-source`` on them would hand out every object that the signing
key can read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from avion_media.backends.store.connection import Connection
from avion_media.backends.store.errors import UploadMissing
from avion_media.backends.store.objects import PresignedPut
from avion_media.backends.store.presign import Presigner
from avion_media.common.parts import Part

NOT_EXAMINED = "the object store has not been examined yet"
_PAGE = 1000  # S3's own bound
_NO_SUCH_UPLOAD = frozenset({"NoSuchUpload", "404", "NoSuchKey"})


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that the store has. ``etag`` is without quotes."""

    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    started: datetime


class MultipartUploads:
    """The multipart uploads of one bucket. Every call can raise `Unavailable`; cancels as for `ObjectStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.refusal = NOT_EXAMINED

    @property
    def allowed(self) -> bool:
        """Whether clients may upload in parts. If not, ``refusal`` says why."""
        return not self.refusal

    async def create(self, key: str, *, content_type: str, metadata: Mapping[str, str]) -> str:
        """Start an upload to ``key`` and return its id. The object will have this type and metadata."""
        request: dict[str, Any] = {**self._target(key), "ContentType": content_type, "Metadata": dict(metadata)}
        created: Any = await self._change(
            lambda client: client.create_multipart_upload(**request), key, "CreateMultipartUpload"
        )
        return str(created["UploadId"])

    def sign_part(self, key: str, upload_id: str, part: Part, *, expires_s: int, now: datetime) -> PresignedPut:
        """Return a PUT of exactly this part, without I/O. Raises `Unavailable` while there are no credentials."""
        signer = self._connection.clients.signers.uploads
        return sign_part(signer, self._connection.part_guard, key, upload_id, part, expires_s=expires_s, now=now)

    async def parts(self, key: str, upload_id: str) -> dict[int, StoredPart]:
        """Return the parts that the store has, by number. Raises UploadMissing."""
        found: dict[int, StoredPart] = {}
        request: dict[str, Any] = {**self._target(key), "UploadId": upload_id, "MaxParts": _PAGE}
        while True:
            page = partial(_list_parts, request)
            listed = await self._connection.query(partial(_known, key, page), key, operation="ListParts")
            for each in listed.get("Parts", ()):
                found[each["PartNumber"]] = StoredPart(each["Size"], each["ETag"].strip('"'))
            if not listed.get("IsTruncated"):
                return found
            request = {**request, "PartNumberMarker": listed["NextPartNumberMarker"]}

    async def complete(self, key: str, upload_id: str, parts: Mapping[int, StoredPart]) -> None:
        """Join these parts to one object. Raises `UploadMissing`, also if another call has completed the upload."""
        listed: list[Any] = [{"PartNumber": number, "ETag": f'"{parts[number].etag}"'} for number in sorted(parts)]
        request: dict[str, Any] = {
            **self._target(key),
            "UploadId": upload_id,
            "MultipartUpload": {"Parts": listed},
        }
        await self._change(
            partial(_known, key, lambda client: client.complete_multipart_upload(**request)),
            key,
            "CompleteMultipartUpload",
        )

    async def abort(self, key: str, upload_id: str) -> None:
        """Remove an upload and its parts. Raises UploadMissing."""
        request: dict[str, Any] = {**self._target(key), "UploadId": upload_id}
        await self._change(
            partial(_known, key, lambda client: client.abort_multipart_upload(**request)), key, "AbortMultipartUpload"
        )

    def unfinished(self, prefix: str, *, page_size: int = _PAGE) -> UnfinishedListing:
        """Return an asynchronous iterator of pages of the unfinished uploads under ``prefix``."""
        return UnfinishedListing(self._connection, prefix, page_size)

    async def is_unfinished(self, key: str) -> bool:
        """Return whether there is an upload to exactly this key."""
        async for page in self.unfinished(key):  # in the order of keys, so the key that equals the prefix comes first
            return any(each.key == key for each in page)
        return False

    async def _change(self, call: Callable[[Any], Any], key: str, operation: str) -> Any:
        return await self._connection.change(call, key, operation=operation)

    def _target(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._connection.bucket, "Key": key}


class UnfinishedListing:
    """An asynchronous iterator of pages. It holds nothing between two pages, so it can be left anywhere."""

    def __init__(self, connection: Connection, prefix: str, page_size: int) -> None:
        self._connection = connection
        self._request: dict[str, Any] | None = {
            "Bucket": connection.bucket,
            "Prefix": prefix,
            "MaxUploads": page_size,
        }

    def __aiter__(self) -> UnfinishedListing:
        return self

    async def __anext__(self) -> list[UnfinishedUpload]:
        request = self._request
        if request is None:
            raise StopAsyncIteration
        listed: Any = await self._connection.query(
            lambda client: client.list_multipart_uploads(**request), operation="ListMultipartUploads"
        )
        self._request = None
        if listed.get("IsTruncated"):
            after = {"KeyMarker": listed["NextKeyMarker"], "UploadIdMarker": listed.get("NextUploadIdMarker", "")}
            self._request = {**request, **after}
        return [
            UnfinishedUpload(each["Key"], each["UploadId"], each["Initiated"].astimezone(UTC))
            for each in listed.get("Uploads", ())
        ]


def sign_part(
    signer: Presigner,
    guard: Mapping[str, str],
    key: str,
    upload_id: str,
    part: Part,
    *,
    expires_s: int,
    now: datetime,
) -> PresignedPut:
    """Return a PUT of one part of an upload. It also signs ``guard``, the headers that prevent copies."""
    query = f"&partNumber={part.number}&uploadId={quote(upload_id, safe='-_.~')}"
    return signer.part(key, query, size_bytes=part.size_bytes, expires_s=expires_s, now=now, guard=guard)


def _list_parts(request: Mapping[str, Any], client: Any) -> Any:
    return client.list_parts(**request)


def _known(key: str, call: Callable[[Any], Any], client: Any) -> Any:
    """Make a call about one upload. Raises `UploadMissing` if the store does not know it."""
    try:
        return call(client)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _NO_SUCH_UPLOAD:
            raise UploadMissing(key) from None
        raise
