"""Listing a prefix, page by page."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from avion_media.backends.store.connection import Connection
from avion_media.backends.store.objects import ListedObject


class Listing:
    """An asynchronous iterator of pages. It holds nothing between two pages, so it can be left anywhere.

    It is a class, because the caller of an async generator would have to close it after leaving it early.
    """

    def __init__(self, connection: Connection, prefix: str, start_after: str | None, page_size: int) -> None:
        self._connection = connection
        self._request: dict[str, Any] | None = {
            "Bucket": connection.bucket,
            "Prefix": prefix,
            "MaxKeys": page_size,
        }
        if start_after is not None:
            self._request["StartAfter"] = start_after

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> tuple[ListedObject, ...]:
        request = self._request
        if request is None:
            raise StopAsyncIteration
        response: Any = await self._connection.query(
            lambda client: client.list_objects_v2(**request), operation="ListObjectsV2"
        )
        token = response.get("NextContinuationToken") if response.get("IsTruncated") else None
        self._request = {**request, "ContinuationToken": token} if token else None
        page = tuple(
            ListedObject(each["Key"], each["Size"], each["ETag"].strip('"'), each["LastModified"].astimezone(UTC))
            for each in response.get("Contents", ())
        )
        if not page and self._request is None:
            raise StopAsyncIteration
        return page


class KeyListing:
    """An asynchronous iterator of pages of keys. A page costs a tenth of the CPU time of botocore's listing."""

    def __init__(self, connection: Connection, prefix: str, start_after: str | None, page_size: int) -> None:
        self._connection = connection
        self._prefix = prefix
        self._page_size = page_size
        self._after = start_after or ""
        self._ended = False

    def __aiter__(self) -> KeyListing:
        return self

    async def __anext__(self) -> list[str]:
        if self._ended:
            raise StopAsyncIteration
        keys, more = await self._connection.query(
            self._by_botocore,
            operation="ListObjectsV2",
            quick=lambda requests: requests.list_keys(self._prefix, self._after, self._page_size),
        )
        self._ended = not more
        if keys:
            self._after = keys[-1]
        elif self._ended:
            raise StopAsyncIteration
        return keys

    def _by_botocore(self, client: Any) -> tuple[list[str], bool]:
        listed = client.list_objects_v2(
            Bucket=self._connection.bucket, Prefix=self._prefix, MaxKeys=self._page_size, StartAfter=self._after
        )
        return [each["Key"] for each in listed.get("Contents", ())], bool(listed.get("IsTruncated"))
