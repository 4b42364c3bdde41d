"""Multipart uploads that clients send: made, listed, completed and aborted here. `Presigner.part` signs the parts.

All of its state is in the store, so no replica has to remember anything. `examine_part_urls` tests once whether clients
may have URLs for parts: a store that obeys ``x-amz-copy-source`` on them would hand out every object that the signing
key can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from avion_media.backends.store.calls import StoreCalls
from avion_media.backends.store.errors import UploadMissing
from avion_media.backends.store.facts import headers_of
from trio_s3 import ListingPage, Pages

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

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls
        self.refusal = NOT_EXAMINED

    @property
    def allowed(self) -> bool:
        """Whether clients may upload in parts. If not, ``refusal`` says why."""
        return not self.refusal

    async def create(self, key: str, *, content_type: str, metadata: Mapping[str, str] | None = None) -> str:
        """Start an upload to ``key`` and return its id. The object will have this type and metadata."""
        request = {**self._target(key), **headers_of(content_type, metadata)}
        created = await self._calls.change(
            "CreateMultipartUpload", lambda client: client.create_multipart_upload(**request), key
        )
        return str(created["UploadId"])

    async def parts(self, key: str, upload_id: str) -> dict[int, StoredPart]:
        """Return the parts that the store has, by number. Raises UploadMissing."""
        found: dict[int, StoredPart] = {}
        request = {**self._target(key), "UploadId": upload_id, "MaxParts": _PAGE}
        while True:
            listed = await self._calls.query("ListParts", partial(_known, "list_parts", request), key)
            for each in listed.get("Parts", ()):
                found[each["PartNumber"]] = StoredPart(each["Size"], each["ETag"].strip('"'))
            if not listed.get("IsTruncated"):
                return found
            request = {**request, "PartNumberMarker": listed["NextPartNumberMarker"]}

    async def complete(
        self, key: str, upload_id: str, etags: Mapping[int, str], *, only_if_absent: bool = False
    ) -> str:
        """Join parts, given by number and etag, to one object. Return its etag. Raises `UploadMissing`, also if another
        call has completed the upload.

        ``only_if_absent`` raises `PreconditionFailed` if the object exists. Ceph 18 ignores it.
        """
        listed = [{"PartNumber": number, "ETag": f'"{etags[number]}"'} for number in sorted(etags)]
        request = {**self._target(key), "UploadId": upload_id, "MultipartUpload": {"Parts": listed}}
        if only_if_absent:
            request["IfNoneMatch"] = "*"
        completing = partial(_known, "complete_multipart_upload", request)
        completed = await self._calls.change("CompleteMultipartUpload", completing, key)
        return str(completed["ETag"]).strip('"')

    async def abort(self, key: str, upload_id: str) -> None:
        """Remove an upload and its parts. Raises UploadMissing."""
        request = {**self._target(key), "UploadId": upload_id}
        await self._calls.change("AbortMultipartUpload", partial(_known, "abort_multipart_upload", request), key)

    def unfinished(self, prefix: str, *, page_size: int = _PAGE) -> Pages[UnfinishedUpload]:
        """Iterate over pages of the unfinished uploads under ``prefix``."""

        async def read(token: str) -> ListingPage[UnfinishedUpload]:
            request: dict[str, Any] = {"Bucket": self._calls.bucket, "Prefix": prefix, "MaxUploads": page_size}
            if token:
                request["KeyMarker"], request["UploadIdMarker"] = token.split("\0")
            listed: Any = await self._calls.query(
                "ListMultipartUploads", lambda client: client.list_multipart_uploads(**request)
            )
            uploads = [
                UnfinishedUpload(each["Key"], each["UploadId"], each["Initiated"].astimezone(UTC))
                for each in listed.get("Uploads", ())
            ]
            markers = f"{listed.get('NextKeyMarker')}\0{listed.get('NextUploadIdMarker', '')}"
            return ListingPage(uploads, markers if listed.get("IsTruncated") else "")

        return Pages(read)

    async def is_unfinished(self, key: str) -> bool:
        """Return whether there is an upload to exactly this key."""
        async for page in self.unfinished(key):  # in the order of keys, so the key that equals the prefix comes first
            return any(each.key == key for each in page)
        return False

    def _target(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._calls.bucket, "Key": key}


def _known(method: str, request: Mapping[str, Any], client: Any) -> Any:
    """Let botocore make a call about one upload. Raises `UploadMissing` if the store does not know it."""
    try:
        return getattr(client, method)(**request)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _NO_SUCH_UPLOAD:
            raise UploadMissing(request["Key"]) from None
        raise
