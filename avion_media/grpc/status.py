"""Status codes, the error that handlers raise, and the trailers that carry both."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from enum import IntEnum

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status as WireStatus

Headers = tuple[tuple[bytes, bytes], ...]

# Clients accept 8 KiB of trailers by default: a longer text is cut, longer details are left out.
_MAX_MESSAGE_BYTES = 1024
_MAX_DETAILS_BYTES = 4096


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
    """Raised by a handler: exactly this code, sentence and details (protobuf messages) reach the client."""

    def __init__(self, code: Code, message: str = "", details: Sequence[Message] = ()) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.details = tuple(details)


OK_TRAILERS: Headers = ((b"grpc-status", b"0"),)


def trailers_of(error: RpcError) -> Headers:
    """The trailers for an error: ``grpc-status``, ``grpc-message`` and, with details, ``grpc-status-details-bin``."""
    trailers: Headers = ((b"grpc-status", b"%d" % error.code),)
    text = error.message.encode(errors="replace")[:_MAX_MESSAGE_BYTES]
    if text:
        trailers += ((b"grpc-message", percent_encoded(text)),)
    if error.details:
        status = WireStatus(code=int(error.code), message=text.decode(errors="ignore"))
        for detail in error.details:
            status.details.add().Pack(detail)
        encoded = base64.b64encode(status.SerializeToString()).rstrip(b"=")
        if len(encoded) <= _MAX_DETAILS_BYTES:
            trailers += ((b"grpc-status-details-bin", encoded),)
    return trailers


def percent_encoded(text: bytes) -> bytes:
    """As ``grpc-message`` wants it: everything but printable ASCII, and ``%`` itself, becomes ``%XX``."""
    return b"".join(b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in text)
