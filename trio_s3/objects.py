"""Data about objects and requests: plain frozen dataclasses."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from trio_s3.errors import NoAnswer
from trio_s3.relay import Relay

ByteRange = tuple[int | None, int | None]
"""As in HTTP: ``(first, last)`` inclusive, ``(first, None)`` to the end, ``(None, n)`` the last n bytes."""

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object. ``size_bytes`` is that of the whole object; ``etag`` is without quotes."""

    key: str
    size_bytes: int
    etag: str
    last_modified: datetime
    content_type: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing, which has neither type nor metadata."""

    key: str
    size_bytes: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class FileSource:
    """Bytes to upload: ``size_bytes`` of the open file ``fd``, from ``offset``. The caller keeps the descriptor.

    It is read with pread, so its position does not matter, and does not change. ``sha256`` is that of these bytes in
    hexadecimal digits, if it is known. The store refuses other bytes.
    """

    fd: int
    size_bytes: int
    offset: int = 0
    sha256: str = ""

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` of these bytes. Blocks. Raises OSError if the file has become shorter."""
        length = min(length, self.size_bytes - start)
        data = os.pread(self.fd, length, self.offset + start)
        if len(data) < length:
            raise OSError(f"the file is shorter than {self.size_bytes} bytes")
        return data


class BytesSource:
    """``data`` as a `FileSource`."""

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._data = data

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` of these bytes."""
        return self._data[start : start + length]


Source = FileSource | BytesSource


@dataclass(frozen=True, slots=True)
class PresignedPut:
    """A PUT that a client may send until ``expires_at``, with exactly these headers."""

    url: str = field(repr=False)  # it lets its holder send the PUT
    headers: dict[str, str]
    expires_at: datetime


class ContentRange(NamedTuple):
    """The range in a response: ``first`` to ``last`` inclusive, of ``total`` bytes. Its text is the header's value."""

    first: int
    last: int
    total: int

    @classmethod
    def of_all(cls, size_bytes: int) -> ContentRange:
        """Return the range of a whole object."""
        return cls(0, size_bytes - 1, size_bytes)

    def __str__(self) -> str:
        return f"bytes {self.first}-{self.last}/{self.total}"


@dataclass(frozen=True, slots=True)
class PartRequest:
    """One GetObject of at most ``max_bytes``; with ``if_match`` only of that version.

    With a ``relay``, or a ``file`` (descriptor and offset), the body goes there, and the part has no data.
    """

    key: str
    byte_range: ByteRange | None
    if_match: str | None
    max_bytes: int
    relay: Relay | None = None
    file: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """The bytes of one GetObject. ``content_range`` is None if the store sent the whole object."""

    info: ObjectInfo
    content_range: ContentRange | None
    data: Bytes


def range_header(byte_range: ByteRange) -> str:
    """Return the ``Range`` header for a byte range. Raises ValueError for an empty one."""
    first, last = byte_range
    if first is None:
        if last is None or last < 1:
            raise ValueError(f"a suffix range needs a positive length, got {byte_range}")
        return f"bytes=-{last}"
    if first < 0 or (last is not None and last < first):
        raise ValueError(f"a range needs 0 <= first <= last, got {byte_range}")
    return f"bytes={first}-{'' if last is None else last}"


def within(byte_range: ByteRange, size: int) -> tuple[int, int]:
    """Return the first and last byte of a range of an object of this size."""
    first, last = byte_range
    if first is None:
        return max(0, size - (last or 0)), size - 1
    return first, size - 1 if last is None else min(last, size - 1)


def received_range(wanted: PartRequest, header: str, length: int) -> ContentRange | None:
    """Return the range in the ``Content-Range`` of a response with ``length`` bytes, None for the whole object.

    Raises `NoAnswer` if that is not the range that is wanted.
    """
    content_range = parse_content_range(header)
    got = content_range or ContentRange.of_all(length)
    expected = within(wanted.byte_range or (0, None), got.total)
    if got[:2] != expected or length != got.last - got.first + 1:
        raise NoAnswer(f"{wanted.key}: {length} bytes of {got} were sent for {wanted.byte_range}")
    return content_range


def parse_content_range(header: str) -> ContentRange | None:
    """Read ``bytes first-last/total``; None for anything else."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    if unit != "bytes" or not (first.isdigit() and last.isdigit() and total.isdigit()):
        return None
    return ContentRange(int(first), int(last), int(total))
