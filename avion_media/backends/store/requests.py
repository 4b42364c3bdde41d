"""The frequent requests, for less than half of botocore's CPU time: a presigned URL, sent on Trio.

botocore takes a millisecond of CPU for a small request, and a thread. 0.6 ms of that are the choice of an endpoint,
events and parsers that GET, HEAD, PUT and DELETE of one object do not need. Only these results are understood here:
success, not found, already exists, a failed condition, and a range behind the end. botocore handles everything else:
retries, regions, refreshed credentials, error messages, and rare cases.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote
from xml.sax.saxutils import unescape

import trio

from avion_media.backends.store.errors import RangeNotSatisfiable, TooLarge
from avion_media.backends.store.http import PIECE_BYTES, Broken, Http, Response
from avion_media.backends.store.objects import (
    BytesSource,
    ObjectInfo,
    ObjectPart,
    PartRequest,
    PutRequest,
    Source,
    range_header,
    received_range,
)
from avion_media.backends.store.presign import AT_ONCE_S, META, Presigner
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable

T = TypeVar("T")

_MAX_ANSWER_BYTES = 4 << 20  # far more than a page of a listing has
_NEEDED = {"content-length", "last-modified"}  # of an object's response that is understood here
_KEY = re.compile("<Key>([^<]*)</Key>")
_MISSING = b"<Code>NoSuchKey</Code>"
_NO_BODY = BytesSource(b"")
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class ForBotocore:
    """botocore must make the request: its response was not understood, or there was none (status 0)."""

    status: int
    why: str = ""


class Requests:
    """Requests to one bucket, for one set of credentials.

    Raises `Unavailable` if the store says nothing for too long. A cancel ends a read at once, and a change before its
    last byte has been sent; otherwise it waits for the response.
    """

    def __init__(self, http: Http, presigner: Presigner) -> None:
        self._http = http
        self._presigner = presigner
        self.refused: set[str] = set()
        """Operations that the store refuses as presigned requests, but not from botocore."""

    async def get(self, wanted: PartRequest) -> ObjectPart | ForBotocore:
        """GetObject. Raises `ObjectMissing`, `PreconditionFailed`, `RangeNotSatisfiable`, `TooLarge` (nothing was
        read)."""
        key = wanted.key

        async def read(response: Response) -> ObjectPart | ForBotocore:
            headers = response.headers
            if response.status in (200, 206) and headers.keys() >= _NEEDED:
                return await _object_of(response, wanted)
            error = await response.content(_MAX_ANSWER_BYTES)
            match response.status:
                case 404 if _MISSING in error:
                    raise ObjectMissing(key)
                case 412:
                    raise PreconditionFailed(key)
                case 416:
                    raise RangeNotSatisfiable(key)
            return ForBotocore(response.status)

        headers = {"Accept-Encoding": "identity"}
        if wanted.byte_range is not None:
            headers["Range"] = range_header(wanted.byte_range)
        if wanted.if_match is not None:
            headers["If-Match"] = f'"{wanted.if_match}"'
        return await self._send("GET", self._url("GET", key), read, headers)

    async def head(self, key: str) -> ObjectInfo | ForBotocore:
        """HeadObject. Raises `ObjectMissing`."""

        async def read(response: Response) -> ObjectInfo | ForBotocore:
            response.has_no_body()
            if response.status == 200 and response.headers.keys() >= _NEEDED:
                return _info(key, response.headers, int(response.headers["content-length"]))
            if response.status == 404:  # without a body, there is no better code
                raise ObjectMissing(key)
            return ForBotocore(response.status)

        return await self._send("HEAD", self._url("HEAD", key), read)

    async def put(self, put: PutRequest, source: Source) -> str | ForBotocore:
        """PutObject. Returns the etag. Raises `PreconditionFailed`.

        The SHA-256 of ``source`` is signed, so the store refuses (400) bytes that were damaged in transit.
        """
        own = {f"{META}{name}": value for name, value in put.metadata.items()}
        if not all(value.isascii() and value == " ".join(value.split()) for value in own.values()):
            return ForBotocore(0)  # a signature would change it

        async def read(response: Response) -> str | ForBotocore:
            answer = await response.content(_MAX_ANSWER_BYTES)
            if response.status == 200 and "etag" in response.headers:
                return response.headers["etag"].strip('"')
            if put.condition and response.status == 412 and b"<Code>PreconditionFailed</Code>" in answer:
                raise PreconditionFailed(put.key)
            return ForBotocore(response.status)

        signed = {
            "content-length": str(source.size_bytes),
            "content-type": put.content_type,
            "x-amz-content-sha256": source.sha256 or await trio.to_thread.run_sync(_sha256, source),
            **own,
        }
        headers = signed | put.condition
        if put.cache_control is not None:
            headers["Cache-Control"] = put.cache_control
        url = self._url("PUT", put.key, signed=signed)
        return await self._send("PUT", url, read, headers, source)

    async def delete(self, key: str) -> ForBotocore | None:
        """DeleteObject. Raises `ObjectMissing` if the store says so; AWS does not."""

        async def read(response: Response) -> ForBotocore | None:
            answer = await response.content(_MAX_ANSWER_BYTES)
            if response.status == 404 and _MISSING in answer:
                raise ObjectMissing(key)
            return None if response.status == 204 else ForBotocore(response.status)

        return await self._send("DELETE", self._url("DELETE", key), read)

    async def list_keys(self, prefix: str, start_after: str, max_keys: int) -> tuple[list[str], bool] | ForBotocore:
        """ListObjectsV2. Returns the keys of one page, and whether more follow."""

        async def read(response: Response) -> tuple[list[str], bool] | ForBotocore:
            page = await response.content(_MAX_ANSWER_BYTES)
            if response.status != 200 or b"</ListBucketResult>" not in page:
                return ForBotocore(response.status)
            text = page.decode()
            return [unescape(key) for key in _KEY.findall(text)], "<IsTruncated>true</IsTruncated>" in text

        query = {"list-type": "2", "max-keys": str(max_keys), "prefix": prefix, "start-after": start_after}
        more_query = "".join(f"&{name}={quote(value, safe='-_.~')}" for name, value in query.items() if value)
        return await self._send("GET", self._url("GET", "", more_query=more_query), read)

    async def put_presigned(self, url: str, headers: Mapping[str, str], body: bytes) -> int | ForBotocore:
        """Send a request that a client with this URL could send. Returns the status."""

        async def read(response: Response) -> int:
            await response.content(_MAX_ANSWER_BYTES)
            return response.status

        return await self._send("PUT", url, read, {"Content-Length": str(len(body)), **headers}, BytesSource(body))

    def _url(self, method: str, key: str, *, signed: Mapping[str, str] = _NO_HEADERS, more_query: str = "") -> str:
        now = datetime.now(UTC)
        return self._presigner.url(method, key, signed=signed, expires_s=AT_ONCE_S, now=now, more_query=more_query)

    async def _send(
        self,
        method: str,
        url: str,
        read: Callable[[Response], Awaitable[T]],
        headers: Mapping[str, str] = _NO_HEADERS,
        body: Source = _NO_BODY,
    ) -> T | ForBotocore:
        """Send a request, and return what ``read`` makes of its response."""
        host, _, target = url.partition("://")[2].partition("/")
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"{method} /{target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode("ascii")
        what = f"{method} /{target.partition('?')[0]}"  # it is logged: without the signature
        try:
            return await self._http.send(head, body, read)
        except trio.TooSlowError:
            detail = f"{what}: no answer within {self._http.timeout_s:g} s"
            raise Unavailable(Dependency.STORE, detail) from None
        except Broken as error:
            return ForBotocore(0, f"{what}: the connection broke: {error}")


async def _object_of(response: Response, wanted: PartRequest) -> ObjectPart:
    key, length = wanted.key, int(response.headers["content-length"])
    if length > wanted.max_bytes:
        raise TooLarge(key, length, wanted.max_bytes)
    content_range = received_range(wanted, response.headers.get("content-range", ""), length)
    info = _info(key, response.headers, content_range.total if content_range else length)
    if wanted.relay is None and wanted.file is None:
        return ObjectPart(info, content_range, await response.exactly(length))
    if wanted.relay is not None:
        await response.relay(length, wanted.relay)
    elif wanted.file is not None:
        await response.to_file(length, *wanted.file)
    return ObjectPart(info, content_range, b"")


def _info(key: str, headers: Mapping[str, str], size_bytes: int) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size_bytes=size_bytes,
        etag=headers.get("etag", "").strip('"'),
        last_modified=parsedate_to_datetime(headers["last-modified"]).astimezone(UTC),
        content_type=headers.get("content-type", "application/octet-stream"),
        metadata={name[len(META) :]: value for name, value in headers.items() if name.startswith(META)},
    )


def _sha256(source: Source) -> str:
    digest = hashlib.sha256()
    for offset in range(0, source.size_bytes, PIECE_BYTES):
        trio.from_thread.check_cancelled()
        digest.update(source.read(offset, PIECE_BYTES))
    return digest.hexdigest()
