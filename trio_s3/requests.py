"""The frequent requests, for less than half of botocore's CPU time: a presigned URL, sent on Trio.

botocore takes a millisecond of CPU for a small request, and a thread. 0.6 ms of that are the choice of an endpoint,
events and parsers that requests for one object, and lists of objects, do not need. As with botocore, a request whose
connection breaks, or that the store cannot answer now, is made once more.
"""

from __future__ import annotations

import hashlib
import html
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar
from urllib.parse import quote

import trio

from trio_s3.errors import FORBIDDEN, SKEWED, NoAnswer, NotS3, Refusal, Refused, S3Error, TooLarge
from trio_s3.http import PIECE_BYTES, Broken, Http, StoreResponse
from trio_s3.objects import (
    Bytes,
    BytesSource,
    ListedObject,
    ObjectInfo,
    ObjectPart,
    PartRequest,
    Source,
    range_header,
    received_range,
)
from trio_s3.presign import AT_ONCE_S, META, Presigner

T = TypeVar("T")

ATTEMPTS = 2  # tasks bring their own retries
LONGEST_PAUSE_S = 1.0  # between two attempts
_MAX_ANSWER_BYTES = 4 << 20  # far more than a page of a listing has
_MAX_SKEW_S = 300.0  # stores refuse requests from a quarter of an hour on; the URL of a request is valid for less
_NEEDED = {"content-length", "last-modified"}  # of a response with an object
_CODE = re.compile("<Code>([^<]*)</Code>")
_MESSAGE = re.compile("<Message>([^<]*)</Message>")
_KEY = re.compile("<Key>([^<]*)</Key>")
_OBJECT_FIELD = re.compile("<(Key|Size|ETag|LastModified)>([^<]*)</")
_NEXT = re.compile("<NextContinuationToken>([^<]*)</")
# How AWS and Ceph refuse a plain GET of an object that was PUT with a client's key.
_ENCRYPTED_BY_CLIENT = frozenset({"InvalidArgument", "InvalidRequest"})
_NO_BODY = BytesSource(b"")
_NO_HEADERS: Mapping[str, str] = {}


def _system_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ListingPage(Generic[T]):
    """A page of a listing, and where the next one begins; empty after the last page."""

    entries: list[T]
    next_token: str


class Pages(Generic[T]):
    """An asynchronous iterator of pages. It holds nothing between two pages, so it can be left anywhere.

    It is a class, because the caller of an async generator would have to close it after leaving it early.
    """

    def __init__(self, read: Callable[[str], Awaitable[ListingPage[T]]]) -> None:
        """``read`` returns the page at a token; the first one has an empty token."""
        self._read = read
        self._token: str | None = ""

    def __aiter__(self) -> Pages[T]:
        return self

    async def __anext__(self) -> list[T]:
        if self._token is None:
            raise StopAsyncIteration
        page = await self._read(self._token)
        self._token = page.next_token or None
        if not page.entries and self._token is None:
            raise StopAsyncIteration
        return page.entries


class Requests:
    """Requests to one bucket, for one set of credentials.

    Raises `S3Error`: `Refused` if the store answers with an error, `NoAnswer` if it says nothing for too long. A cancel
    ends a read at once, and a change before its last byte has been sent; otherwise it waits for the response.
    """

    def __init__(self, http: Http, presigner: Presigner, now: Callable[[], datetime] = _system_now) -> None:
        """``now``: the clock by which requests are signed."""
        self._http = http
        self._presigner = presigner
        self._now = now
        self.are_encrypted = http.tls is not None

    async def get(self, wanted: PartRequest) -> ObjectPart:
        """GetObject. Raises `TooLarge` (nothing was read). If only its client's key can decrypt it, it is MISSING.

        A relayed body is never repeated.
        """
        key = wanted.key

        async def read(response: StoreResponse) -> ObjectPart:
            if response.status in (200, 206):
                return await _object_of(response, wanted)
            code, detail = await self._refusal(response)
            if response.status == 400 and code in _ENCRYPTED_BY_CLIENT:
                raise Refused("NoSuchKey", 404, key, detail)
            raise Refused(code, response.status, key, detail)

        headers = {"Accept-Encoding": "identity"}
        if wanted.byte_range is not None:
            headers["Range"] = range_header(wanted.byte_range)
        if wanted.if_match is not None:
            headers["If-Match"] = f'"{wanted.if_match}"'
        attempts = ATTEMPTS if wanted.relay is None else 1
        return await self._send("GET", self._url("GET", key), read, headers, attempts=attempts)

    async def head(self, key: str) -> ObjectInfo:
        """HeadObject. Raises `Refused` (MISSING) as `get` does."""

        async def read(response: StoreResponse) -> ObjectInfo | None:
            response.has_no_body()
            if response.status == 200:
                return _info(key, response)
            if response.status == 400:
                return None
            raise _error_of_head(response, key)

        info = await self._send("HEAD", self._url("HEAD", key), read)
        if info is None:  # the reason is in the body that only a GET has: an expired token, or a client's key
            info = (await self.get(PartRequest(key, (0, 0), None, 1))).info
        return info

    async def head_bucket(self) -> None:
        """HeadBucket. Raises `Refused` (NO_BUCKET) if there is none, `NotS3` if this is not an S3 store."""

        async def read(response: StoreResponse) -> bool:
            response.has_no_body()
            if response.status not in (200, 403, 404):
                raise _error_of_head(response, "")
            return response.status == 200

        if await self._send("HEAD", self._url("HEAD", ""), read):
            return
        try:
            await self.list_keys("", "", "", 1)  # raises: only the response to a GET has a code and a message
        except Refused as error:
            if error.refusal is Refusal.MISSING:
                raise NotS3("it answers 404 without an error of S3") from None
            raise

    async def put(
        self, key: str, source: Source, signed: Mapping[str, str], unsigned: Mapping[str, str] = _NO_HEADERS
    ) -> str:
        """PutObject, with these headers. Returns the etag. Raises `Refused` (PRECONDITION).

        The SHA-256 of ``source`` is signed, so the store refuses (400) bytes that were damaged in transit.
        """

        async def read(response: StoreResponse) -> str:
            if response.status == 200 and "etag" in response.headers:
                await response.content(_MAX_ANSWER_BYTES)
                return response.headers["etag"].strip('"')
            raise await self._error_of(response, key)

        headers = {
            **signed,
            "content-length": str(source.size_bytes),
            "x-amz-content-sha256": source.sha256 or await trio.to_thread.run_sync(_sha256, source),
        }
        url = self._url("PUT", key, signed={name: " ".join(value.split()) for name, value in headers.items()})
        return await self._send("PUT", url, read, {**headers, **unsigned}, source)

    async def delete(self, key: str) -> None:
        """DeleteObject. Raises `Refused` (MISSING) if the store says so; AWS does not."""

        async def read(response: StoreResponse) -> None:
            if response.status not in (200, 204):
                raise await self._error_of(response, key)
            await response.content(_MAX_ANSWER_BYTES)

        await self._send("DELETE", self._url("DELETE", key), read)

    async def list_keys(self, prefix: str, start_after: str, token: str, max_keys: int) -> ListingPage[str]:
        """ListObjectsV2. Returns one page of keys: from ``token``, or else after ``start_after``."""
        page = await self._list(prefix, start_after, token, max_keys)
        return ListingPage([html.unescape(key) for key in _KEY.findall(page)], _next_token(page))

    async def list_objects(self, prefix: str, start_after: str, token: str, max_keys: int) -> ListingPage[ListedObject]:
        """As `list_keys`, with the other fields of each object, for ten times the CPU time."""
        page = await self._list(prefix, start_after, token, max_keys)
        return ListingPage([_listed(each) for each in page.split("<Contents>")[1:]], _next_token(page))

    async def put_presigned(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a request that a client with this URL could send. Returns the status."""

        async def read(response: StoreResponse) -> int:
            await response.content(_MAX_ANSWER_BYTES)
            return response.status

        return await self._send("PUT", url, read, {"Content-Length": str(len(body)), **headers}, BytesSource(body))

    async def _list(self, prefix: str, start_after: str, token: str, max_keys: int) -> str:
        async def read(response: StoreResponse) -> str:
            if response.status != 200:
                raise await self._error_of(response, "")
            page = await response.content(_MAX_ANSWER_BYTES)
            if b"</ListBucketResult>" not in page:
                raise NoAnswer("a listing was cut off", may_pass=True)
            return page.decode()

        query = {
            "continuation-token": token,
            "list-type": "2",
            "max-keys": str(max_keys),
            "prefix": prefix,
            "start-after": "" if token else start_after,
        }
        more_query = "".join(f"&{name}={quote(value, safe='-_.~')}" for name, value in query.items() if value)
        return await self._send("GET", self._url("GET", "", more_query=more_query), read)

    def _url(self, method: str, key: str, *, signed: Mapping[str, str] = _NO_HEADERS, more_query: str = "") -> str:
        now = self._now()
        return self._presigner.url(method, key, signed=signed, expires_s=AT_ONCE_S, now=now, more_query=more_query)

    async def _send(
        self,
        method: str,
        url: str,
        read: Callable[[StoreResponse], Awaitable[T]],
        headers: Mapping[str, str] = _NO_HEADERS,
        body: Source = _NO_BODY,
        *,
        attempts: int = ATTEMPTS,
    ) -> T:
        """Send a request, and return what ``read`` makes of its response."""
        host, _, target = url.partition("://")[2].partition("/")
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"{method} /{target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode("ascii")
        what = f"{method} /{target.partition('?')[0]}"  # it is logged: without the signature
        while True:
            attempts -= 1
            try:
                return await self._http.send(head, body, read)
            except trio.TooSlowError:
                detail = f"{what}: no answer within {self._http.timeout_s:g} s"
                raise NoAnswer(detail) from None
            except Broken as error:
                if not attempts:
                    raise NoAnswer(f"{what}: the connection broke: {error}") from error
            except S3Error as error:
                if not attempts or not error.may_pass:
                    raise
            await trio.sleep(random.uniform(0, LONGEST_PAUSE_S))

    async def _error_of(self, response: StoreResponse, key: str) -> Refused:
        """Return the error of a response with a body."""
        code, detail = await self._refusal(response)
        return Refused(code, response.status, key, detail)

    async def _refusal(self, response: StoreResponse) -> tuple[str, str]:
        """Return the code of a response that is not a success, and a description for operators."""
        text = (await response.content(_MAX_ANSWER_BYTES)).decode(errors="replace")
        code, message = _CODE.search(text), _MESSAGE.search(text)
        words = (f"status {response.status}", *(html.unescape(each[1]) for each in (code, message) if each))
        detail, name = ": ".join(words), code[1] if code else str(response.status)
        if name in FORBIDDEN and (skew_s := self._skew_s(response.headers.get("date", ""))) > _MAX_SKEW_S:
            return SKEWED, f"{detail}; the clocks differ by {skew_s:,.0f} s"
        return name, detail

    def _skew_s(self, date: str) -> float:
        """Return how far our clock is from the store's ``Date``; 0 if the store sent none."""
        try:
            return abs(parsedate_to_datetime(date).timestamp() - self._now().timestamp())
        except ValueError:
            return 0.0


async def _object_of(response: StoreResponse, wanted: PartRequest) -> ObjectPart:
    info = _info(wanted.key, response)
    length = info.size_bytes
    if length > wanted.max_bytes:
        raise TooLarge(wanted.key, length, wanted.max_bytes)
    content_range = received_range(wanted, response.headers.get("content-range", ""), length)
    if content_range is not None:
        info = replace(info, size_bytes=content_range.total)
    data: Bytes = b""
    if wanted.relay is not None:
        await response.relay(length, wanted.relay)
    elif wanted.file is not None:
        await response.to_file(length, *wanted.file)
    else:
        data = await response.exactly(length)
    return ObjectPart(info, content_range, data)


def _info(key: str, response: StoreResponse) -> ObjectInfo:
    """Return the facts in the headers of an object. The size is that of the body."""
    headers = response.headers
    if not headers.keys() >= _NEEDED:
        raise NoAnswer(f"{key}: not a response of an object store: its length or date is missing")
    return ObjectInfo(
        key=key,
        size_bytes=int(headers["content-length"]),
        etag=headers.get("etag", "").strip('"'),
        last_modified=parsedate_to_datetime(headers["last-modified"]).astimezone(UTC),
        content_type=headers.get("content-type", "application/octet-stream"),
        metadata={name[len(META) :]: value for name, value in headers.items() if name.startswith(META)},
    )


def _listed(entry: str) -> ListedObject:
    fields = dict(_OBJECT_FIELD.findall(entry))
    etag = html.unescape(fields["ETag"]).strip('"')
    modified = datetime.fromisoformat(fields["LastModified"]).astimezone(UTC)
    return ListedObject(html.unescape(fields["Key"]), int(fields["Size"]), etag, modified)


def _next_token(page: str) -> str:
    found = _NEXT.search(page)
    return html.unescape(found[1]) if found else ""


def _error_of_head(response: StoreResponse, key: str) -> Refused:
    return Refused(str(response.status), response.status, key, f"status {response.status}")


def _sha256(source: Source) -> str:
    digest = hashlib.sha256()
    for offset in range(0, source.size_bytes, PIECE_BYTES):
        trio.from_thread.check_cancelled()
        digest.update(source.read(offset, PIECE_BYTES))
    return digest.hexdigest()
