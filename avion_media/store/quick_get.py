"""GetObject at less than half of botocore's price: a presigned URL, sent by botocore's own HTTP session.

Of the millisecond of CPU that botocore takes for a small object, 0.6 go into choosing an endpoint, events and parsers
that an origin, which asks for nothing else, has no use for. Only what succeeds, or is not there, is taken from here.
Whatever else the store says, and a connection that fails, is left to botocore: retries, regions, refreshed credentials
and error messages are its business.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, SSLError
from botocore.httpsession import URLLib3Session
from botocore.response import StreamingBody

from avion_media.store.presign import Presigner

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_EXPIRES_S = 300  # of a URL that is used at once: room for clocks that differ
_FOUND = (200, 206)
_NOT_FOUND = 404
_META = "x-amz-meta-"
_HEADERS = {"IfMatch": "If-Match", "Range": "Range"}


def ca_bundle() -> str:
    """The file of certificate authorities that botocore trusts the store by; empty for the usual ones."""
    configured = botocore.session.Session().get_config_variable("ca_bundle")
    return str(configured or os.environ.get("REQUESTS_CA_BUNDLE", ""))


def open_session(timeout_s: tuple[float, float], connections: int) -> URLLib3Session:
    """An HTTP session as botocore's clients have one. ``timeout_s`` is to connect and to read.

    It reads files, and raises what botocore raises where they are wrong.
    """
    verify: Any = ca_bundle() or True  # the stubs know of booleans only
    return URLLib3Session(
        verify=verify,
        proxies={},
        timeout=timeout_s,  # type: ignore[arg-type] # the stubs know of whole seconds only
        max_pool_connections=connections,
    )


class QuickGet:
    """Called like `S3Client.get_object`, in any thread, and answers and raises as that does."""

    def __init__(self, session: URLLib3Session, presigner: Presigner) -> None:
        self._session = session
        self._presigner = presigner
        self._refused = False  # a store that takes no presigned GET is not asked again

    def __call__(self, client: S3Client, request: Mapping[str, Any]) -> dict[str, Any]:
        """One object; ``request`` is of Bucket, Key, IfMatch and Range."""
        response = None if self._refused else self._send(request)
        if response is not None and response.status_code in _FOUND and "Content-Length" in response.headers:
            return _found(response)
        if (
            response is not None
            and response.status_code == _NOT_FOUND
            and b"<Code>NoSuchKey</Code>" in response.content
        ):
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": request["Key"]}}, "GetObject")
        answer: dict[str, Any] = {**client.get_object(**request)}
        self._refused = self._refused or (response is not None and 400 <= response.status_code < 404)
        return answer

    def _send(self, request: Mapping[str, Any]) -> AWSResponse | None:
        """The response, its body not read; None where there is no connection, or the kept one had been closed."""
        url = self._presigner.get(request["Key"], expires_s=_EXPIRES_S, now=datetime.now(UTC))
        headers: Any = HeadersDict({header: request[name] for name, header in _HEADERS.items() if name in request})
        try:
            response = self._session.send(AWSPreparedRequest("GET", url, headers, None, True))
        except (ConnectionClosedError, EndpointConnectionError, SSLError):
            return None
        if response.status_code not in _FOUND:
            response.content  # noqa: B018 - read, so that the connection can be used again
        return response


def _found(response: AWSResponse) -> dict[str, Any]:
    """In the shape of `S3Client.get_object`'s answer, as far as anybody here looks at it."""
    headers = response.headers
    length = int(headers["Content-Length"])
    answer = {
        "Body": StreamingBody(response.raw, length),
        "ContentLength": length,
        "ETag": headers.get("ETag", ""),
        "LastModified": parsedate_to_datetime(headers["Last-Modified"]),
        "Metadata": {name[len(_META) :]: value for name, value in headers.items() if name.lower().startswith(_META)},
    }
    for name in ("Content-Type", "Content-Range"):
        if name in headers:
            answer[name.replace("-", "")] = headers[name]
    return answer
