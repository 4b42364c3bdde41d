"""What a request's headers say: the method, the deadline, the metadata; or why they cannot be served."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from avion_media.grpc.status import Code, Headers, RpcError

Metadata = Mapping[str, str | bytes]
NO_METADATA: Metadata = MappingProxyType({})

_MAX_REMEMBERED = 256  # blocks of at most `GrpcLimits.max_header_list_bytes`
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_REQUIRED = frozenset({b":method", b":scheme", b":path"})
_CONNECTION_SPECIFIC = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?[ \t]*(;.*)?")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NOT_METADATA = frozenset({"te", "content-type", "content-length"})

METHOD_NOT_ALLOWED: Headers = ((b":status", b"405"), (b"allow", b"POST"))
UNSUPPORTED_MEDIA_TYPE: Headers = ((b":status", b"415"),)


class MalformedRequest(Exception):
    """The header block breaks RFC 9113, 8: the stream is reset."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's headers, checked. At most one of the two refusals is set; then there is no deadline."""

    path: str
    timeout_s: float = math.inf
    metadata: Metadata = field(default_factory=lambda: NO_METADATA)
    http_refusal: Headers | None = None
    refusal: RpcError | None = None


@lru_cache(maxsize=_MAX_REMEMBERED)
def parse_request_head(headers: Headers) -> RequestHead:
    """Read a request's header block; raises `MalformedRequest`. Pure: equal blocks are read once."""
    pseudo, regular = _split(headers)
    if not pseudo.keys() >= _REQUIRED:
        raise MalformedRequest("a pseudo header is missing")
    path = pseudo[b":path"].decode("latin-1")
    metadata = _metadata(regular)
    if pseudo[b":method"] != b"POST":
        return RequestHead(path, metadata=metadata, http_refusal=METHOD_NOT_ALLOWED)
    if not _CONTENT_TYPE.fullmatch(regular.get(b"content-type", b"")):
        return RequestHead(path, metadata=metadata, http_refusal=UNSUPPORTED_MEDIA_TYPE)
    if regular.get(b"grpc-encoding", b"identity") != b"identity":
        return RequestHead(path, metadata=metadata, refusal=unsupported_encoding())
    try:
        timeout_s = _timeout_s(regular.get(b"grpc-timeout"))
    except ValueError:
        refusal = RpcError(Code.INVALID_ARGUMENT, "malformed grpc-timeout")
        return RequestHead(path, metadata=metadata, refusal=refusal)
    return RequestHead(path, timeout_s, metadata)


def unsupported_encoding() -> RpcError:
    """The refusal of a compressed message."""
    return RpcError(Code.UNIMPLEMENTED, "compressed messages are not accepted")


def _split(headers: Headers) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in headers:
        if _BAD_VALUE.search(value):
            raise MalformedRequest("a value with forbidden characters")
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or regular or not value:
                raise MalformedRequest("a pseudo header that is unknown, repeated, empty or late")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name) or name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
            raise MalformedRequest("a name that is not allowed")
        # A repeated header is one with its values joined (RFC 9110, 5.3).
        regular[name] = regular[name] + b"," + value if name in regular else value
    return pseudo, regular


def _timeout_s(value: bytes | None) -> float:
    if value is None:
        return math.inf
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ValueError(value)
    return int(match[1]) * _UNIT_S[match[2]]


def _metadata(regular: dict[bytes, bytes]) -> Metadata:
    metadata: dict[str, str | bytes] = {}
    for raw_name, value in regular.items():
        name = raw_name.decode("ascii")
        if name in _NOT_METADATA or name.startswith("grpc-"):
            continue
        metadata[name] = _binary(value) if name.endswith("-bin") else value.decode("latin-1")
    return MappingProxyType(metadata)


def _binary(value: bytes) -> bytes:
    first = value.split(b",", 1)[0]
    try:
        return base64.b64decode(first + b"=" * (-len(first) % 4), validate=True)
    except binascii.Error:
        raise MalformedRequest("binary metadata that is not base64") from None
