"""gRPC's framing of requests: a flag, a length, a payload; cut anywhere by HTTP/2."""

from __future__ import annotations

from avion_media.grpc.request_head import unsupported_encoding
from avion_media.grpc.status import Code, RpcError

PREFIX_BYTES = 5


def is_one_message(data: bytes, max_bytes: int) -> bool:
    """Whether this is exactly one whole message within the limit: the usual case, which needs no assembly."""
    length = len(data) - PREFIX_BYTES
    return 0 <= length <= max_bytes and data[0] == 0 and int.from_bytes(data[1:5], "big") == length


def framed(payload: bytes) -> bytes:
    """A message as it goes over the wire."""
    return b"\x00" + len(payload).to_bytes(4, "big") + payload


class Assembly:
    """The messages of one request, put together."""

    __slots__ = ("_max_bytes", "_partial")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._partial = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether no message is begun."""
        return not self._partial

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with this; `RpcError` when the request cannot be accepted."""
        self._partial += data
        messages: list[bytes] = []
        position = 0
        while len(self._partial) - position >= PREFIX_BYTES:
            start = position + PREFIX_BYTES
            length = int.from_bytes(self._partial[position + 1 : start], "big")
            self._check(self._partial[position], length)
            if len(self._partial) < start + length:
                break
            position = start + length
            messages.append(bytes(self._partial[start:position]))
        del self._partial[:position]
        return messages

    def _check(self, flag: int, length: int) -> None:
        if flag:
            raise unsupported_encoding()
        if length > self._max_bytes:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes; the limit is {self._max_bytes}")
