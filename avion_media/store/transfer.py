"""The blocking part of transfers between a connection and a file, which runs in a thread of the store.

A download can be abandoned, so it writes through its own duplicate of the descriptor: the caller can close the original
at once, and its number can be used again. An upload is never abandoned; it checks for a cancel before each chunk.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from avion_media.files import write_at
from avion_media.store.errors import TooLarge, translated
from avion_media.store.objects import FileSource, ObjectInfo, ObjectPart, object_info, parse_content_range

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK_BYTES = 1 << 20


class Download:
    """Writes objects, or parts of them, to one open file at their offsets.

    Use it as a context manager around the awaits. After the block, abandoned threads stop at their next chunk.
    """

    def __init__(self, fd: int) -> None:
        self._target_fd = fd
        self._stop = threading.Event()

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def whole(self, get_object: Callable[[], dict[str, Any]], key: str, max_bytes: int) -> ObjectInfo:
        """Write an object to the start of the file. Raises `TooLarge` before the first byte."""
        fd = os.dup(self._target_fd)
        try:
            with translated(key):
                response = get_object()
            info = object_info(key, response)
            try:
                if info.size_bytes > max_bytes:
                    raise TooLarge(info.key, info.size_bytes, max_bytes)
                self._copy(response["Body"], fd, 0, info.key)
            finally:
                response["Body"].close()
            return info
        finally:
            os.close(fd)

    def part(self, get_object: Callable[[], dict[str, Any]], key: str, offset: int) -> None:
        """Write a range of an object to ``offset`` of the file."""
        fd = os.dup(self._target_fd)
        try:
            with translated(key):
                body = get_object()["Body"]
            try:
                self._copy(body, fd, offset, key)
            finally:
                body.close()
        finally:
            os.close(fd)

    def _copy(self, body: Any, fd: int, offset: int, key: str) -> None:
        while not self._stop.is_set():
            with translated(key):
                chunk = body.read(_CHUNK_BYTES)
            if not chunk:
                return
            write_at(fd, chunk, offset)
            offset += len(chunk)


def read_response(key: str, get_object: Callable[[], dict[str, Any]], max_bytes: int) -> ObjectPart:
    """Send a GetObject and read its body to the end. Raises TooLarge before the first byte of the body.

    If the waiting task is cancelled, this notices it between two chunks and closes the connection.
    """
    response = get_object()
    body = response.pop("Body")
    try:
        left: int = response["ContentLength"]
        if left > max_bytes:
            raise TooLarge(key, left, max_bytes)
        chunks = []
        while left > 0:
            trio.from_thread.check_cancelled()
            chunks.append(body.read(min(left, _CHUNK_BYTES)))  # raises if the body ends early
            left -= len(chunks[-1])
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return ObjectPart(object_info(key, response), parse_content_range(response.get("ContentRange", "")), data)
    finally:
        body.close()  # a connection whose body was read to its end is already back in the pool


class FileBody(io.RawIOBase):
    """A part of an open file, as the seekable body that botocore needs.

    Each read in a thread of the store first checks whether the waiting task was cancelled, and then raises
    trio.Cancelled. botocore does not catch it and closes the connection, so the store discards the incomplete object.
    """

    def __init__(self, source: FileSource) -> None:
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
        wanted = min(len(view), self._source.size_bytes - self._position)
        if wanted <= 0:
            return 0
        got = os.preadv(self._source.fd, [view[:wanted]], self._source.offset + self._position)
        self._position += got
        return got

    def __len__(self) -> int:
        return self._source.size_bytes
