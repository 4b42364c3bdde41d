"""Replies as bytes, in both versions of the protocol."""

from __future__ import annotations

from typing import Any

from fakeredis._helpers import SimpleError, SimpleString


class Verbatim(str):
    """Text that RESP3 marks as text."""


def encode(value: Any, version: int) -> bytes:
    """Return the bytes of a reply in RESP2 or RESP3."""
    if value is None:
        return b"_\r\n" if version == 3 else b"$-1\r\n"
    if isinstance(value, SimpleString):
        return b"+%s\r\n" % value.value
    if isinstance(value, SimpleError):
        return b"-%s\r\n" % value.value.encode().replace(b"\r", b" ").replace(b"\n", b" ")
    if isinstance(value, bool):
        return (b"#t\r\n" if value else b"#f\r\n") if version == 3 else b":%d\r\n" % value
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, float):
        return b",%s\r\n" % _digits(value) if version == 3 else _bulk(_digits(value))
    if isinstance(value, Verbatim) and version == 3:
        data = b"txt:" + value.encode()
        return b"=%d\r\n%s\r\n" % (len(data), data)
    if isinstance(value, str):
        return _bulk(value.encode())
    if isinstance(value, bytes):
        return _bulk(value)
    if isinstance(value, dict):
        parts = [encode(each, version) for pair in value.items() for each in pair]
        return b"%%%d\r\n" % len(value) + b"".join(parts) if version == 3 else _array(parts)
    return _array([encode(each, version) for each in value])


def encode_push(message: list[Any], version: int) -> bytes:
    """Return the bytes of what a client gets without a question."""
    kind = b">" if version == 3 else b"*"
    return kind + _array([encode(each, version) for each in message])[1:]


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


def _array(parts: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def _digits(value: float) -> bytes:
    return f"{value:.17g}".encode() if value != int(value) else b"%d" % value
