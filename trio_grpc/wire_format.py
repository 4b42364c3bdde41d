"""gRPC's format over HTTP/2: the headers of a request, metadata both ways, messages and their compression."""

from __future__ import annotations

import base64
import binascii
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import trio

from trio_grpc.status import Code, Headers, RpcError

PREFIX_BYTES = 5
MIN_COMPRESSED_BYTES = 1024  # smaller responses are sent as they are
ACCEPTED_ENCODINGS = (b"grpc-accept-encoding", b"identity,gzip")
GZIP_ENCODING = (b"grpc-encoding", b"gzip")
_MAX_METADATA_BYTES = 8 << 10  # of a response's, initial or trailing: what clients take by default
_SLICE_BYTES = 256 << 10  # of a message, compressed or inflated in one go: a millisecond or two
_GZIP = 16 + zlib.MAX_WBITS  # zlib's word for gzip's header and trailer
_MAX_COMMAS = 128  # between binary values: a reference of two bytes can repeat thousands
_MAX_REMEMBERED = 256  # blocks of at most `GrpcLimits.max_header_list_bytes`
_METADATA_NAME = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?|")
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?[ \t]*(;.*)?")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_TIMEOUT = 99_999_999  # eight digits
_NOT_METADATA = frozenset({b"te", b"content-type", b"content-length"})
_CONNECTION = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
_RESERVED = frozenset({"te", "content-type", "content-length", *_CONNECTION})

METHOD_NOT_ALLOWED: Headers = ((b":status", b"405"), (b"allow", b"POST"))
UNSUPPORTED_MEDIA_TYPE: Headers = ((b":status", b"415"),)


# -- Metadata


class Metadata:
    """Names and values that go with a call: a name may come more than once. Names are in lower case.

    Values of names that end in ``-bin`` are bytes; a client may send several in one header, separated by commas.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str | bytes]] = ()) -> None:
        self._pairs = tuple(pairs)

    def get(self, name: str, default: str | bytes | None = None) -> str | bytes | None:
        """Return the first value of a name."""
        return next((value for each, value in self._pairs if each == name), default)

    def get_all(self, name: str) -> tuple[str | bytes, ...]:
        """Return every value of a name, in their order."""
        return tuple(value for each, value in self._pairs if each == name)

    def items(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return all pairs, in their order."""
        return self._pairs

    def __contains__(self, name: str) -> bool:
        return any(each == name for each, _ in self._pairs)


def metadata_headers(pairs: Iterable[tuple[str, str | bytes]], before: Headers = ()) -> Headers:
    """Return metadata as headers, which follow others. Raises ValueError for what gRPC does not allow."""
    headers: list[tuple[bytes, bytes]] = []
    for name, value in pairs:
        if not _METADATA_NAME.fullmatch(name) or name.startswith("grpc-") or name in _RESERVED:
            raise ValueError(f"{name!r} is not a name for metadata")
        if isinstance(value, bytes) is not name.endswith("-bin"):
            raise ValueError(f"{name}: names of bytes end in -bin, and no others")
        if isinstance(value, bytes):
            headers.append((name.encode(), base64.b64encode(value).rstrip(b"=")))
        elif _METADATA_VALUE.fullmatch(value):
            headers.append((name.encode(), value.encode()))
        else:
            raise ValueError(f"{name}: a value has printable ASCII only, and no blank around it")
    if sum(len(name) + len(value) for name, value in (*before, *headers)) > _MAX_METADATA_BYTES:
        raise ValueError(f"more than {_MAX_METADATA_BYTES} bytes of metadata")
    return tuple(headers)


# -- Requests' headers


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's headers, checked. At most one of the two refusals is set; then there is no deadline."""

    path: str
    metadata: Metadata
    timeout_s: float = math.inf
    is_gzip: bool = False
    """Whether its messages may be compressed."""
    accepts_gzip: bool = False
    http_refusal: Headers | None = None
    refusal: RpcError | None = None


@lru_cache(maxsize=_MAX_REMEMBERED)
def parse_request_head(headers: Headers) -> RequestHead:
    """Read a request's header block. Pure: equal blocks are read once."""
    pseudo = {name: value for name, value in headers if name[:1] == b":"}
    regular = headers[len(pseudo) :]
    path = pseudo.get(b":path", b"").decode("latin-1")  # CONNECT has none
    try:
        metadata = Metadata(_metadata(regular))
    except binascii.Error:
        refusal = RpcError(Code.INTERNAL, "binary metadata that is not base64")
        return RequestHead(path, Metadata(), refusal=refusal)
    if pseudo[b":method"] != b"POST":
        return RequestHead(path, metadata, http_refusal=METHOD_NOT_ALLOWED)
    if not _CONTENT_TYPE.fullmatch(_joined(regular, b"content-type")):
        return RequestHead(path, metadata, http_refusal=UNSUPPORTED_MEDIA_TYPE)
    encoding = _joined(regular, b"grpc-encoding") or b"identity"
    if encoding not in (b"identity", b"gzip"):
        refusal = RpcError(Code.UNIMPLEMENTED, "compressed messages are accepted as gzip only")
        return RequestHead(path, metadata, refusal=refusal)
    timeout = _TIMEOUT.fullmatch(_joined(regular, b"grpc-timeout"))
    if timeout is None and any(name == b"grpc-timeout" for name, _ in regular):
        refusal = RpcError(Code.INVALID_ARGUMENT, "malformed grpc-timeout")
        return RequestHead(path, metadata, refusal=refusal)
    timeout_s = math.inf if timeout is None else int(timeout[1]) * _UNIT_S[timeout[2]]
    accepted = _joined(regular, b"grpc-accept-encoding").split(b",")
    return RequestHead(
        path,
        metadata,
        timeout_s,
        is_gzip=encoding == b"gzip",
        accepts_gzip=b"gzip" in map(bytes.strip, accepted),
    )


def _joined(regular: Headers, name: bytes) -> bytes:
    """A repeated header is one with its values joined (RFC 9110, 5.3)."""
    return b",".join(value for each, value in regular if each == name)


def metadata_in(headers: Headers) -> Metadata:
    """Return the metadata among a response's headers; nothing if it cannot be read."""
    try:
        return Metadata(_metadata(tuple(header for header in headers if header[0][:1] != b":")))
    except ValueError:  # not base64, or not ASCII
        return Metadata()


def timeout_header(timeout_s: float) -> Headers:
    """Return the header for a deadline; nothing for an infinite one."""
    if timeout_s == math.inf:
        return ()
    milliseconds = max(math.ceil(timeout_s * 1000), 0)
    value = b"%dm" % milliseconds if milliseconds <= _MAX_TIMEOUT else b"%dS" % min(milliseconds // 1000, _MAX_TIMEOUT)
    return ((b"grpc-timeout", value),)


def _metadata(regular: Headers) -> Iterator[tuple[str, str | bytes]]:
    commas = _MAX_COMMAS
    for raw_name, value in regular:
        if raw_name in _NOT_METADATA or raw_name.startswith(b"grpc-"):
            continue
        name = raw_name.decode("ascii")
        if name.endswith("-bin"):
            values = value.split(b",", commas)  # where one more is left, it is no base64
            commas -= len(values) - 1
            for each in map(bytes.strip, values):
                yield name, base64.b64decode(each + b"=" * (-len(each) % 4), validate=True)
        else:
            yield name, value.decode("latin-1")


# -- Messages: a flag, a length, a payload; cut anywhere by HTTP/2


class Message(NamedTuple):
    """One message of a request."""

    payload: bytes
    is_compressed: bool = False


def is_one_message(data: bytes, max_bytes: int) -> bool:
    """Return whether this is exactly one whole message within the limit: the usual case, which needs no assembly."""
    length = len(data) - PREFIX_BYTES
    return 0 <= length <= max_bytes and data[0] == 0 and int.from_bytes(data[1:5], "big") == length


def framed(payload: bytes, *, is_compressed: bool = False) -> bytes:
    """Return a message as it goes over the wire."""
    return (b"\x01" if is_compressed else b"\x00") + len(payload).to_bytes(4, "big") + payload


class Assembly:
    """The messages of one request, put together."""

    __slots__ = ("_is_gzip", "_max_bytes", "_partial")

    def __init__(self, max_bytes: int, *, is_gzip: bool) -> None:
        self._max_bytes = max_bytes
        self._is_gzip = is_gzip
        self._partial = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether no message is begun."""
        return not self._partial

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete with this. Raises `RpcError` if the request cannot be accepted."""
        self._partial += data
        messages: list[Message] = []
        position = 0
        while len(self._partial) - position >= PREFIX_BYTES:
            start = position + PREFIX_BYTES
            flag, length = self._partial[position], int.from_bytes(self._partial[position + 1 : start], "big")
            if flag > 1 or (flag and not self._is_gzip):
                raise RpcError(Code.INTERNAL, "a message is flagged as compressed, but grpc-encoding does not say how")
            if length > self._max_bytes:
                raise RpcError(Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes; the limit is {self._max_bytes}")
            if len(self._partial) < start + length:
                break
            position = start + length
            messages.append(Message(bytes(self._partial[start:position]), flag == 1))
        del self._partial[:position]
        return messages


async def inflated(payload: bytes, max_bytes: int) -> bytes:
    """Return a message without its compression, in slices between which others run.

    Raises `RpcError`: RESOURCE_EXHAUSTED once it is larger than ``max_bytes``, INTERNAL if it is not gzip.
    """
    inflate = zlib.decompressobj(_GZIP)
    whole = bytearray()
    try:
        while not inflate.eof:
            piece = inflate.decompress(payload, _SLICE_BYTES)
            payload = inflate.unconsumed_tail
            whole += piece
            if len(whole) > max_bytes:
                raise RpcError(Code.RESOURCE_EXHAUSTED, f"an inflated message beyond the limit of {max_bytes} bytes")
            if not piece and not payload and not inflate.eof:
                raise RpcError(Code.INTERNAL, "a compressed message is cut short")
            await trio.lowlevel.checkpoint()
    except zlib.error:
        raise RpcError(Code.INTERNAL, "a compressed message is not gzip") from None
    if inflate.unused_data:
        raise RpcError(Code.INTERNAL, "a compressed message has more after its end")
    return bytes(whole)


async def deflated(payload: bytes) -> bytes:
    """Return a message compressed by gzip, in slices between which others run."""
    deflate = zlib.compressobj(wbits=_GZIP)
    pieces: list[bytes] = []
    for start in range(0, len(payload), _SLICE_BYTES):
        pieces.append(deflate.compress(payload[start : start + _SLICE_BYTES]))
        await trio.lowlevel.checkpoint()
    return b"".join((*pieces, deflate.flush()))
