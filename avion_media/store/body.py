"""The body of one GetObject as an asynchronous stream that can be left at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import trio

from avion_media.store.connection import Connection
from avion_media.store.objects import ContentRange, ObjectInfo, object_info, parse_content_range

_FIRST_BYTES = 256 << 10  # most thumbnails, and what a slow store sends within the time that its callers have
CHUNK_BYTES = 1 << 20  # a quarter of the CPU per byte of 64 KiB reads: each one is a hop to a thread


class BodyReader:
    """One response body, between the thread that may be reading it and the task that may leave it.

    Closing a socket while another thread reads from it can block the closer, so whoever comes last closes:
    `leave` when no thread is busy, otherwise the thread, which may have been abandoned long before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: Any = None
        self._busy = False
        self._left = False

    def open(self, get_object: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bytes]:
        """Get the object (in a thread) and keep its body. Returns the rest of the response, and the body's first bytes.

        So a thumbnail costs one hop to a thread, and its connection is free before anybody has taken a byte of it; and
        a store that stalls after its headers is noticed while an error can still be told.
        """
        self._begin()
        try:
            response = get_object()
            self._stream = response.pop("Body")
            return response, self._stream.read(_FIRST_BYTES)
        finally:
            self._end()

    def read(self, max_bytes: int) -> bytes:
        """The next bytes (in a thread), b"" at the end or when left meanwhile."""
        if not self._begin():
            return b""
        try:
            data: bytes = self._stream.read(max_bytes)
            return data
        finally:
            self._end()

    def leave(self) -> None:
        """Give the connection back, or close it when bytes are still to come. Never blocks; safe to repeat."""
        with self._lock:
            self._left = True
            busy = self._busy
        if not busy:
            self._close()

    def _begin(self) -> bool:
        with self._lock:
            self._busy = not self._left
            return self._busy

    def _end(self) -> None:
        with self._lock:
            self._busy = False
            left = self._left
        if left:
            self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class ObjectBody:
    """An open object: ``info``, ``content_range`` (None for the whole), and its bytes by ``async for``.

    Read it once, within the block of `ObjectStore.open_body`. Raises Unavailable when the connection breaks; a cancel
    while it waits for bytes returns at once.
    """

    def __init__(
        self, connection: Connection, reader: BodyReader, key: str, response: dict[str, Any], first: bytes
    ) -> None:
        self.info: ObjectInfo = object_info(key, response)
        self.content_range: ContentRange | None = parse_content_range(response.get("ContentRange", ""))
        self.length_bytes: int = response["ContentLength"]
        self._connection = connection
        self._reader = reader
        self._first = first
        self._left_bytes = self.length_bytes

    def __aiter__(self) -> ObjectBody:
        return self

    async def __anext__(self) -> bytes:
        if not self._left_bytes:
            raise StopAsyncIteration
        chunk, self._first = self._first, b""
        if chunk:
            await trio.lowlevel.checkpoint()
        else:
            chunk = await self._connection.read(lambda _client: self._reader.read(CHUNK_BYTES), self.info.key)
        if not chunk:
            raise StopAsyncIteration  # it was left: a body that ends early raises
        self._left_bytes -= len(chunk)
        self._connection.received(len(chunk))
        return chunk
