"""The requests that botocore makes for the frequent ones, with their bodies. Everything here blocks, in a thread."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import trio
from botocore.exceptions import ClientError

from avion_media.backends.files import write_at
from avion_media.backends.store.errors import TooLarge
from avion_media.backends.store.objects import (
    ObjectInfo,
    ObjectPart,
    PartRequest,
    Source,
    object_info,
    range_header,
    received_range,
)
from avion_media.common.errors import ObjectMissing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK_BYTES = 1 << 20
# How AWS and Ceph refuse a plain GET of an object that was PUT with a client's key.
_ENCRYPTED_BY_CLIENT = frozenset({"InvalidArgument", "InvalidRequest"})


def get_object(bucket: str, wanted: PartRequest, client: Any) -> ObjectPart:
    """Get an object, or a part of it. Raises `TooLarge` before the first byte of the body.

    If the waiting task is cancelled, this notices it between two chunks, and closes the connection.
    """
    response = _opened(bucket, wanted, client)
    body, left = response.pop("Body"), response["ContentLength"]
    try:
        if left > wanted.max_bytes:
            raise TooLarge(wanted.key, left, wanted.max_bytes)
        content_range = received_range(wanted, response.get("ContentRange", ""), left)
        chunks = []
        fd, offset = wanted.file or (-1, 0)
        while left > 0:
            trio.from_thread.check_cancelled()
            chunk = body.read(min(left, _CHUNK_BYTES))  # raises if the body ends early
            left -= len(chunk)
            if wanted.file is None:
                chunks.append(chunk)
            else:
                write_at(fd, chunk, offset)
                offset += len(chunk)
        return ObjectPart(object_info(wanted.key, response, content_range), content_range, b"".join(chunks))
    finally:
        body.close()  # a connection whose body was read to its end is already back in the pool


def head_object(client: Any, bucket: str, key: str) -> ObjectInfo:
    """Get the facts about an object. Raises `ObjectMissing` also for one that only its client's key can decrypt."""
    try:
        return object_info(key, client.head_object(Bucket=bucket, Key=key))
    except ClientError as error:
        if error.response["Error"]["Code"] != "400":
            raise
    # A response to HEAD has no body with the reason; that of a GET has. The reason may be an expired token.
    get_object(bucket, PartRequest(key, (0, 0), None, 1), client)
    return object_info(key, client.head_object(Bucket=bucket, Key=key))


def _opened(bucket: str, wanted: PartRequest, client: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"Bucket": bucket, "Key": wanted.key}
    if wanted.if_match is not None:
        request["IfMatch"] = f'"{wanted.if_match}"'
    if wanted.byte_range is not None:
        request["Range"] = range_header(wanted.byte_range)
    try:
        return {**client.get_object(**request)}
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ENCRYPTED_BY_CLIENT:
            raise
        raise ObjectMissing(wanted.key) from None


class SeekableBody(io.RawIOBase):
    """A source, as the body that botocore needs.

    Each read in a thread of the store first checks whether the waiting task was cancelled, and then raises
    trio.Cancelled. botocore does not catch it and closes the connection, so the store discards the incomplete object.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        trio.from_thread.check_cancelled()
        view = memoryview(buffer).cast("B")
        data = self._source.read(self._position, max(0, min(len(view), self._source.size_bytes - self._position)))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def __len__(self) -> int:
        return self._source.size_bytes
