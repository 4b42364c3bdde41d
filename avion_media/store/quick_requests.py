"""Five requests for less than half of botocore's CPU time: a presigned URL, sent by botocore's own HTTP session.

botocore takes a millisecond of CPU for a small request. 0.6 ms of that are the choice of an endpoint, events and
parsers that GET, HEAD, PUT and DELETE of one object do not need. Only three results are used from here: success, not
found, and already exists. botocore handles everything else, including failed connections: retries, regions, refreshed
credentials, error messages, and rare cases.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import unescape

import botocore.session
import trio
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import URLLib3Session
from botocore.response import StreamingBody

from avion_media.store.objects import FileSource
from avion_media.store.presign import AT_ONCE_S, META, UNSIGNED_PAYLOAD, Presigner
from avion_media.store.quick_acks import ask_for_quick_acks
from avion_media.store.transfer import FileBody

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_CHUNK_BYTES = 1 << 20
_KEY = re.compile("<Key>([^<]*)</Key>")
_HEADERS = {"IfMatch": "If-Match", "Range": "Range", "IfNoneMatch": "If-None-Match", "CacheControl": "Cache-Control"}


def ca_bundle() -> str:
    """Return the file of certificate authorities that botocore uses for the store; empty for the usual ones."""
    configured = botocore.session.Session().get_config_variable("ca_bundle")
    return str(configured or os.environ.get("REQUESTS_CA_BUNDLE", ""))


def open_session(timeout_s: tuple[float, float], connections: int) -> URLLib3Session:
    """Open an HTTP session like those of botocore's clients. ``timeout_s`` is for connecting and for reading.

    It reads files, and raises botocore's errors if they are invalid.
    """
    verify: Any = ca_bundle() or True  # the stubs know only booleans
    session = URLLib3Session(
        verify=verify,
        proxies={},
        timeout=timeout_s,  # type: ignore[arg-type] # the stubs know only whole seconds
        max_pool_connections=connections,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # type: ignore[list-item] # as botocore's own
    )
    ask_for_quick_acks(session)
    return session


class QuickRequests:
    """Has the methods of `S3Client`, with the same results and errors. Can be called in any thread."""

    def __init__(self, session: URLLib3Session, presigner: Presigner) -> None:
        self._session = session
        self._presigner = presigner
        self._refused: set[str] = (
            set()
        )  # methods that the store refuses as presigned requests; they are not tried again

    def get_object(self, client: S3Client, request: Mapping[str, Any]) -> dict[str, Any]:
        """Get one object. ``request`` has Bucket, Key, IfMatch and Range."""
        response = self._send("GET", request)
        if response is not None and response.status_code in (200, 206) and "Content-Length" in response.headers:
            return _found(response) | {
                "Body": StreamingBody(response.raw, int(response.headers["Content-Length"])),
            }
        if _says(response, 404, "NoSuchKey"):
            raise _error("NoSuchKey", request, "GetObject")
        return self._by_client("GET", response, lambda: client.get_object(**request))

    def head_object(self, client: S3Client, request: Mapping[str, Any]) -> dict[str, Any]:
        """Get the facts about one object. ``request`` has Bucket and Key."""
        response = self._send("HEAD", request)
        if response is not None and response.status_code == 200 and "Content-Length" in response.headers:
            return _found(response)
        if (
            response is not None and response.status_code == 404
        ):  # a response to HEAD has no body, so there is no better code
            raise _error("404", request, "HeadObject")
        return self._by_client("HEAD", response, lambda: client.head_object(**request))

    def put_object(self, client: S3Client, request: Mapping[str, Any], source: bytes | FileSource) -> dict[str, Any]:
        """Write one object. ``request`` has Bucket, Key, ContentType, Metadata, CacheControl and IfNoneMatch.

        The SHA-256 of ``source`` is signed, so the store refuses (400) bytes that were damaged in transit. A cancel
        takes effect between two chunks of a file.
        """
        metadata = {f"{META}{name}": value for name, value in request["Metadata"].items()}
        response = None
        if all(value.isascii() and value == " ".join(value.split()) for value in metadata.values()):
            signed = {
                "content-length": str(len(source) if isinstance(source, bytes) else source.size_bytes),
                "content-type": request["ContentType"],
                "x-amz-content-sha256": _sha256(source),
                **metadata,
            }
            body = source if isinstance(source, bytes) else _chunks(source)
            response = self._send("PUT", request, signed, body)
        if response is not None and response.status_code == 200 and "ETag" in response.headers:
            return {"ETag": response.headers["ETag"]}
        if "IfNoneMatch" in request and _says(response, 412, "PreconditionFailed"):
            raise _error("PreconditionFailed", request, "PutObject")
        body_of_client: Any = source if isinstance(source, bytes) else FileBody(source)
        return self._by_client("PUT", response, lambda: client.put_object(**request, Body=body_of_client))

    def delete_object(self, client: S3Client, request: Mapping[str, Any]) -> dict[str, Any]:
        """Remove one object. ``request`` has Bucket and Key."""
        response = self._send("DELETE", request)
        if response is not None and response.status_code == 204:
            return {}
        if _says(response, 404, "NoSuchKey"):
            raise _error("NoSuchKey", request, "DeleteObject")
        return self._by_client("DELETE", response, lambda: client.delete_object(**request))

    def list_keys(self, client: S3Client, request: Mapping[str, Any]) -> tuple[list[str], bool]:
        """Return the keys of one page, and whether more follow. ``request`` has Bucket, Prefix, MaxKeys and
        StartAfter."""
        query = {
            "list-type": "2",
            "max-keys": str(request["MaxKeys"]),
            "prefix": request["Prefix"],
            "start-after": request.get("StartAfter", ""),
        }
        more_query = "".join(f"&{name}={quote(value, safe='-_.~')}" for name, value in query.items() if value)
        response = self._send("LIST", {"Key": ""}, more_query=more_query)
        if response is not None and response.status_code == 200 and b"</ListBucketResult>" in response.content:
            text = response.content.decode()
            return [unescape(key) for key in _KEY.findall(text)], "<IsTruncated>true</IsTruncated>" in text

        listed = self._by_client("LIST", response, lambda: client.list_objects_v2(**request))
        return [each["Key"] for each in listed.get("Contents", ())], bool(listed.get("IsTruncated"))

    def _by_client(self, method: str, response: AWSResponse | None, call: Callable[[], Any]) -> dict[str, Any]:
        """Let botocore make the request. If it succeeds where ``response`` was a refusal, presigning was the cause."""
        answer: dict[str, Any] = {**call()}
        if response is not None and 400 <= response.status_code < 404:
            self._refused.add(method)
        return answer

    def _send(
        self,
        method: str,
        request: Mapping[str, Any],
        signed: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        more_query: str = "",
    ) -> AWSResponse | None:
        """Return the response. The body of an object is not read, any other body is. ``signed`` are headers in lower
        case.

        Returns None if the connection failed, or if botocore must make the request.
        """
        if method in self._refused:
            return None
        method = "GET" if method == "LIST" else method
        signed = signed or {}
        payload = signed.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
        url = self._presigner.url(
            method,
            request["Key"],
            signed=signed,
            payload=payload,
            expires_s=AT_ONCE_S,
            now=datetime.now(UTC),
            more_query=more_query,
        )
        headers: Any = HeadersDict({header: request[name] for name, header in _HEADERS.items() if name in request})
        headers.update(signed)
        try:
            response = self._session.send(AWSPreparedRequest(method, url, headers, body, True))  # type: ignore[arg-type]
        except (ConnectionClosedError, EndpointConnectionError, SSLError):
            return None
        except (ConnectTimeoutError, ReadTimeoutError) as error:
            trio.from_thread.check_cancelled()  # botocore would retry, and see a cancel at its first chunk
            raise type(error)(endpoint_url=url.partition("?")[0]) from None  # the text is logged: no signature in it
        if method != "GET" or more_query or response.status_code not in (200, 206):
            response.content  # noqa: B018 - read, so that the connection can be used again
        return response


def _found(response: AWSResponse) -> dict[str, Any]:
    """Return the result as `S3Client` would, with the fields that are used here."""
    headers = response.headers
    answer = {
        "ContentLength": int(headers["Content-Length"]),
        "ETag": headers.get("ETag", ""),
        "LastModified": parsedate_to_datetime(headers["Last-Modified"]),
        "Metadata": {name[len(META) :]: value for name, value in headers.items() if name.lower().startswith(META)},
    }
    for name in ("Content-Type", "Content-Range"):
        if name in headers:
            answer[name.replace("-", "")] = headers[name]
    return answer


def _says(response: AWSResponse | None, status: int, code: str) -> bool:
    return (
        response is not None and response.status_code == status and f"<Code>{code}</Code>".encode() in response.content
    )


def _error(code: str, request: Mapping[str, Any], operation: Any) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": request["Key"]}}, operation)


def _sha256(source: bytes | FileSource) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if source.sha256:
        return source.sha256
    digest = hashlib.sha256()
    for chunk in _chunks(source):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(source: FileSource) -> Iterator[bytes]:
    """Yield the bytes of a file, in a thread. Raises trio.Cancelled before a chunk; then the connection, with the
    incomplete object, is closed."""
    offset, end = source.offset, source.offset + source.size_bytes
    while offset < end:
        trio.from_thread.check_cancelled()
        chunk = os.pread(source.fd, min(_CHUNK_BYTES, end - offset), offset)
        if not chunk:
            raise OSError(f"the file is shorter than {source.size_bytes} bytes")
        offset += len(chunk)
        yield chunk
