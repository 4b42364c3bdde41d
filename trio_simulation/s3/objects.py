"""Objects of a bucket, and uploads in parts."""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from .messages import Refused

META = "x-amz-meta-"
# What a store gives back as it got it, besides metadata.
_KEPT = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_DEFAULT_TYPE = "binary/octet-stream"
_MIN_PART_BYTES = 5 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object.

    Attributes:
      etag: without quotation marks.
      headers: the type of the content, metadata, and others that a GET returns.
      modified_unix_s: whole seconds by the clock of the store.
    """

    data: bytes
    etag: str
    headers: Mapping[str, str]
    modified_unix_s: int

    @property
    def last_modified(self) -> str:
        """The date in the format of HTTP."""
        return format_datetime(datetime.fromtimestamp(self.modified_unix_s, UTC), usegmt=True)

    @property
    def modified_iso(self) -> str:
        """The date in the format of listings."""
        return datetime.fromtimestamp(self.modified_unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(slots=True)
class Upload:
    """An upload in parts that has not been completed."""

    key: str
    headers: Mapping[str, str]
    parts: dict[int, StoredObject] = field(default_factory=dict)


class Bucket:
    """What a store holds."""

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, Upload] = {}
        self._keys: list[str] = []
        self._begun = 0

    def get(self, key: str) -> StoredObject:
        """Return an object; refuse if it is missing."""
        if key not in self.objects:
            raise Refused(404, "NoSuchKey")
        return self.objects[key]

    def put(self, key: str, data: bytes, headers: Mapping[str, str], etag: str | None = None) -> StoredObject:
        """Store an object."""
        digest = etag or hashlib.md5(data, usedforsecurity=False).hexdigest()
        stored = StoredObject(data, digest, headers, int(time.time()))
        if key not in self.objects:
            insort(self._keys, key)
        self.objects[key] = stored
        return stored

    def delete(self, key: str) -> None:
        """Remove an object if it exists."""
        if self.objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """Yield the keys with a prefix that come after a key, in order."""
        start = bisect_left(self._keys, max(prefix, after))
        for key in self._keys[start:]:
            if not key.startswith(prefix):
                return
            if key > after:
                yield key

    def check(self, key: str, if_match: str | None, if_none_match: str | None) -> None:
        """Refuse to write unless the object is there or not as demanded."""
        found = self.objects.get(key)
        if if_none_match is not None and found is not None and if_none_match.strip('"') in ("*", found.etag):
            raise Refused(412, "PreconditionFailed")
        # Of a missing object, AWS says 404 and Ceph 412.
        if if_match is not None and (found is None or if_match.strip('"') not in ("*", found.etag)):
            raise Refused(412, "PreconditionFailed")

    def begin_upload(self, key: str, headers: Mapping[str, str]) -> str:
        """Begin an upload in parts, and return its id."""
        self._begun += 1
        number = f"upload-{self._begun}"
        self.uploads[number] = Upload(key, headers)
        return number

    def upload(self, number: str, key: str) -> Upload:
        """Return an upload; refuse if it is missing."""
        found = self.uploads.get(number)
        if found is None or found.key != key:
            raise Refused(404, "NoSuchUpload")
        return found

    def put_part(self, upload: Upload, number: int, data: bytes) -> StoredObject:
        """Store a part."""
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        upload.parts[number] = part = StoredObject(data, digest, {}, int(time.time()))
        return part

    def complete(self, number: str, upload: Upload, wanted: list[tuple[int, str]]) -> StoredObject:
        """Make an object of the parts with these numbers and ETags."""
        if not wanted:
            raise Refused(400, "MalformedXML")
        if [each for each, _ in wanted] != sorted({each for each, _ in wanted}):
            raise Refused(400, "InvalidPartOrder")
        parts = []
        for part_number, etag in wanted:
            part = upload.parts.get(part_number)
            if part is None or part.etag != etag:
                raise Refused(400, "InvalidPart")
            parts.append(part)
        if any(len(part.data) < _MIN_PART_BYTES for part in parts[:-1]):
            raise Refused(400, "EntityTooSmall")
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        del self.uploads[number]
        return self.put(upload.key, b"".join(part.data for part in parts), upload.headers, etag)


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what is stored of the headers of a request."""
    kept = {name: value for name, value in headers.items() if name.startswith(META) or name in _KEPT}
    return {"content-type": headers.get("content-type", _DEFAULT_TYPE), **kept}
