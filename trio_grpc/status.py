"""Status codes, the error that handlers raise, and the trailers that carry both."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from enum import IntEnum
from urllib.parse import quote, unquote

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as WireStatus

Headers = tuple[tuple[bytes, bytes], ...]

# Clients accept 8 KiB of trailers by default: a longer text is cut, longer details are left out.
_MAX_MESSAGE_BYTES = 1024
_MAX_DETAILS_BYTES = 4096
_NOT_ENCODED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")  # of ``grpc-message``


class Code(IntEnum):
    """The canonical codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class _StatusError(Exception):
    def __init__(
        self, code: Code, message: str = "", details: Sequence[Message] = (), *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.retry_after_s = retry_after_s


class RpcError(_StatusError):
    """Raised by a handler: exactly this code, sentence and details (protobuf messages) reach the client.

    ``retry_after_s`` asks clients to repeat the call after so long, infinity never to. They get it twice: as RetryInfo
    among the details, and as ``grpc-retry-pushback-ms`` for clients that retry by themselves.
    """

    def __init__(
        self, code: Code, message: str = "", details: Sequence[Message] = (), *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, message, details, retry_after_s=retry_after_s)
        if retry_after_s is not None and retry_after_s < math.inf:
            delay = Duration(seconds=int(retry_after_s), nanos=int(retry_after_s % 1 * 1e9))
            self.details += (RetryInfo(retry_delay=delay),)


class CallError(_StatusError):
    """Raised by a client's call: the status that the server sent, or that this client gives the failure.

    ``details`` are protobuf messages: those of unknown types stay `google.protobuf.any_pb2.Any`. ``retry_after_s`` is
    the server's wish, infinity if it asks not to repeat the call, and None if it has none. A handler that lets this
    pass answers INTERNAL: what another server said is not for its own clients.
    """


class ConnectionEnded(CallError):
    """The connection ended before the response, or no call can begin on it any more. The code is UNAVAILABLE."""

    def __init__(self, reason: str) -> None:
        super().__init__(Code.UNAVAILABLE, reason)


OK_TRAILERS: Headers = ((b"grpc-status", b"0"),)


def trailers_of(error: RpcError) -> Headers:
    """Return the trailers for an error: ``grpc-status``, ``grpc-message``, details and pushback, if there are any."""
    trailers: Headers = ((b"grpc-status", b"%d" % error.code),)
    text = error.message.encode(errors="replace")[:_MAX_MESSAGE_BYTES]
    if text:
        trailers += ((b"grpc-message", quote(text, safe=_NOT_ENCODED).encode()),)
    if error.details:
        status = WireStatus(code=int(error.code), message=text.decode(errors="ignore"))
        for detail in error.details:
            status.details.add().Pack(detail)
        encoded = base64.b64encode(status.SerializeToString()).rstrip(b"=")
        if len(encoded) <= _MAX_DETAILS_BYTES:
            trailers += ((b"grpc-status-details-bin", encoded),)
    if error.retry_after_s is not None:
        pushback_ms = int(error.retry_after_s * 1000) if error.retry_after_s < math.inf else -1
        trailers += ((b"grpc-retry-pushback-ms", b"%d" % pushback_ms),)
    return trailers


# -- For clients

# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
_CODES_OF_HTTP = dict.fromkeys((b"429", b"502", b"503", b"504"), Code.UNAVAILABLE)
_CODES_OF_HTTP |= {b"400": Code.INTERNAL, b"401": Code.UNAUTHENTICATED}
_CODES_OF_HTTP |= {b"403": Code.PERMISSION_DENIED, b"404": Code.UNIMPLEMENTED}


def http_error_in(head: Headers) -> CallError | None:
    """Return the error for a response that is not gRPC's, such as a proxy's page; None for one that is."""
    fields = dict(head)
    if b"grpc-status" in fields:
        return None
    status, content_type = fields.get(b":status", b""), fields.get(b"content-type", b"")
    if status != b"200":
        code = _CODES_OF_HTTP.get(status, Code.UNKNOWN)
        return CallError(code, f"the server answered with the HTTP status {status.decode('latin-1')}")
    if not content_type.startswith(b"application/grpc"):
        return CallError(Code.UNKNOWN, f"the response is {content_type.decode('latin-1') or 'of no type'}, not gRPC")
    return None


def error_in(trailers: Headers) -> CallError | None:
    """Return the error that the trailers of a response have; None for OK."""
    fields = dict(trailers)
    number = fields.get(b"grpc-status")
    if number is None:
        return CallError(Code.UNKNOWN, "the response ended without a status")
    if number == b"0":
        return None
    code = Code(int(number)) if number.isdigit() and int(number) in set(Code) else Code.UNKNOWN
    pushback = fields.get(b"grpc-retry-pushback-ms")
    retry_after_s = None
    if pushback is not None:
        retry_after_s = int(pushback) / 1000 if pushback.isdigit() else math.inf
    message = unquote(fields.get(b"grpc-message", b"").decode("latin-1"), errors="replace")
    return CallError(code, message, _details(fields.get(b"grpc-status-details-bin", b"")), retry_after_s=retry_after_s)


def _details(encoded: bytes) -> list[Message]:
    try:
        status = WireStatus.FromString(base64.b64decode(encoded + b"=" * (-len(encoded) % 4)))
        return [_unpacked(detail) for detail in status.details]
    except (ValueError, DecodeError):
        return []


def _unpacked(detail: Any) -> Message:
    try:
        kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(detail.TypeName()))
    except KeyError:
        return detail
    return kind.FromString(detail.value)
