"""Status codes, the error that handlers raise, and the trailers that carry both."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from enum import IntEnum
from urllib.parse import quote

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
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


class RpcError(Exception):
    """Raised by a handler: exactly this code, sentence and details (protobuf messages) reach the client.

    ``retry_after_s`` asks clients to repeat the call after so long, infinity never to. They get it twice: as RetryInfo
    among the details, and as ``grpc-retry-pushback-ms`` for clients that retry by themselves.
    """

    def __init__(
        self, code: Code, message: str = "", details: Sequence[Message] = (), *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.retry_after_s = retry_after_s
        if retry_after_s is not None and retry_after_s < math.inf:
            delay = Duration(seconds=int(retry_after_s), nanos=int(retry_after_s % 1 * 1e9))
            self.details += (RetryInfo(retry_delay=delay),)


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
