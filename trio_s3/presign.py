"""Presigned URLs: AWS Signature Version 4 in the query string, for path-style addresses. Pure: no I/O, no clock.

Decision: signed here instead of by botocore. This signature is nearly all of the work of RequestMediaUpload. botocore
needs about 50 µs for it through `S3SigV4QueryAuth` (200 µs through `generate_presigned_url`), because it parses the URL
repeatedly and derives the key of the day for each request. Here everything that is constant for a day is kept, so a
signature takes one SHA-256 and one HMAC. Tests compare the result with botocore's, and use a store that checks it.
The algorithm: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlsplit

from trio_s3.objects import PresignedPut

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
AT_ONCE_S: Final = 300  # validity of a URL that is used at once: room for clocks that differ
META: Final = "x-amz-meta-"  # before the name of an object's own metadata
_PAYLOAD: Final = "x-amz-content-sha256"
_ACL: Final = "x-amz-acl"
_UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
_MAX_EXPIRES_S: Final = 7 * 86400  # the algorithm's own bound
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class SigningCredentials:
    """A snapshot of the credentials; ``token`` is empty unless they are temporary."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


DENY_COPY: Final[Mapping[str, str]] = {"x-amz-copy-source-if-match": '"no-server-side-copy"'}


def upload_guard(acl: str, *, deny_copy: bool) -> dict[str, str]:
    """Return the headers that an upload URL signs, so that its holder can use it for nothing but an upload.

    Some stores obey every ``x-amz-`` header of a presigned PUT, signed or not (Ceph before 19.2.6 and 20.2.4:
    CVE-2026-54330). One header turns the PUT into a copy of any object that the signer can read, another one
    makes the object public. A signed header can be neither changed nor left out. So a copy has a condition on the etag
    of its source that no etag meets (412). A plain PUT has no source, so the condition does not affect it. A signed
    ``acl`` also excludes ``x-amz-grant-…`` headers (400); an empty one is not signed.
    """
    guard = {_ACL: acl} if acl else {}
    return {**guard, **DENY_COPY} if deny_copy else guard


@dataclass(frozen=True, slots=True)
class _Day:
    """The values that are the same for all signatures of one UTC day."""

    date: str
    scope: str
    key: bytes = field(repr=False)
    query_start: str = field(repr=False)  # with the name of the key


class Presigner:
    """Signs URLs below ``endpoint_url``/``bucket``, for one set of credentials.

    Temporary credentials that expire earlier than a URL end it earlier. ``guard``: the headers of `upload_guard`.
    """

    def __init__(
        self,
        endpoint_url: str,
        bucket: str,
        region: str,
        credentials: SigningCredentials,
        guard: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        parts = urlsplit(endpoint_url)
        if not parts.hostname:
            raise ValueError(f"not an address: {endpoint_url!r}")
        # Clients leave the default port of the scheme out of their Host header, so it must not be signed either.
        default_port = parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._host = host if default_port else f"{host}:{parts.port}"
        self._origin = f"{parts.scheme}://{self._host}"
        self._base_path = f"{quote(parts.path.rstrip('/'), safe='/~')}/{bucket}/"
        self._region = region
        self._guard = guard
        self._part_guard = {name: value for name, value in guard.items() if name != _ACL}  # parts have no ACL
        self._credentials = credentials
        self._token_query = f"&X-Amz-Security-Token={quote(credentials.token, safe='')}" if credentials.token else ""
        self._day = self._derive("19700101")

    def put(
        self,
        key: str,
        *,
        content_type: str,
        size_bytes: int,
        expires_s: int,
        now: datetime,
        sha256_digest: bytes | None = None,
        guard: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] = _NO_HEADERS,
    ) -> PresignedPut:
        """Return a PUT of exactly ``size_bytes`` of ``content_type`` (and, if given, of that SHA-256) to ``key``, which
        a client may send until ``now + expires_s``.

        Length and type are signed, so a store refuses any others. A digest is signed in two headers:
        ``x-amz-content-sha256``, which every implementation of the signature compares with the body (radosgw knows no
        other), and ``x-amz-checksum-sha256``, which AWS also stores with the object. The guard and ``metadata`` are
        signed as well. Another ``guard`` is for tests of what a store takes.
        """
        media_type = " ".join(content_type.split())
        guard = self._guard if guard is None else guard
        more = {**guard, **{f"{META}{name}": value for name, value in metadata.items()}}
        if sha256_digest is not None:
            more[_PAYLOAD] = sha256_digest.hex()
            more["x-amz-checksum-sha256"] = base64.b64encode(sha256_digest).decode()
        signed = {"content-length": str(size_bytes), "content-type": media_type, **more}
        url = self.url("PUT", key, signed=signed, expires_s=expires_s, now=now)
        return PresignedPut(url, {"Content-Type": media_type, **more}, now + timedelta(seconds=expires_s))

    def part(
        self, key: str, upload_id: str, number: int, size_bytes: int, *, expires_s: int, now: datetime
    ) -> PresignedPut:
        """Return a PUT of a part of exactly this size of a multipart upload to ``key``; the first one has number 1. The
        guard is signed as in `put`."""
        query = f"&partNumber={number}&uploadId={quote(upload_id, safe='-_.~')}"
        signed = {"content-length": str(size_bytes), **self._part_guard}
        url = self.url("PUT", key, signed=signed, expires_s=expires_s, now=now, more_query=query)
        return PresignedPut(url, {**self._part_guard}, now + timedelta(seconds=expires_s))

    def get(
        self,
        key: str,
        *,
        expires_s: int,
        now: datetime,
        cache_control: str = "",
        content_type: str = "",
        content_disposition: str = "",
    ) -> str:
        """Return a URL that GETs ``key``. If given, these response headers replace the object's own."""
        wanted = (  # in the order of their names
            ("cache-control", cache_control),
            ("content-disposition", content_disposition),
            ("content-type", content_type),
        )
        overrides = "".join(f"&response-{name}={quote(value, safe='')}" for name, value in wanted if value)
        return self.url("GET", key, expires_s=expires_s, now=now, more_query=overrides)

    def url(
        self,
        method: str,
        key: str,
        *,
        expires_s: int,
        now: datetime,
        signed: Mapping[str, str] = _NO_HEADERS,
        more_query: str = "",
    ) -> str:
        """Return a URL for one request with exactly these ``signed`` headers; it may have unsigned headers too.

        Names of headers must be in lower case, and their values without leading, trailing or repeated spaces. A signed
        ``x-amz-content-sha256`` is that of the body in hex. ``more_query`` must be sorted and come after ``X-Amz-…``,
        because the signature covers the query in that order.
        """
        if not 1 <= expires_s <= _MAX_EXPIRES_S:
            raise ValueError(f"expires_s must be within 1 and {_MAX_EXPIRES_S}, got {expires_s}")
        headers = {"host": self._host, **signed}
        ordered = sorted(headers)
        names = ";".join(ordered)
        canonical_headers = "".join([f"{name}:{headers[name]}\n" for name in ordered])
        moment = now.astimezone(UTC)
        date = f"{moment.year:04}{moment.month:02}{moment.day:02}"
        day = self._day
        if day.date != date:
            day = self._day = self._derive(date)
        timestamp = f"{date}T{moment.hour:02}{moment.minute:02}{moment.second:02}Z"
        path = self._base_path + quote(key, safe="/~")
        query = (
            f"{day.query_start}{timestamp}&X-Amz-Expires={expires_s}{self._token_query}"
            f"&X-Amz-SignedHeaders={names.replace(';', '%3B')}{more_query}"
        )
        payload = signed.get(_PAYLOAD, _UNSIGNED_PAYLOAD)
        canonical = f"{method}\n{path}\n{query}\n{canonical_headers}\n{names}\n{payload}"
        to_sign = f"{_ALGORITHM}\n{timestamp}\n{day.scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(day.key, to_sign.encode(), "sha256").hex()
        return f"{self._origin}{path}?{query}&X-Amz-Signature={signature}"

    def _derive(self, date: str) -> _Day:
        key = f"AWS4{self._credentials.secret_key}".encode()
        for part in (date, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        scope = f"{date}/{self._region}/s3/aws4_request"
        credential = quote(f"{self._credentials.access_key}/{scope}", safe="")
        start = f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date="
        return _Day(date, scope, key, start)
