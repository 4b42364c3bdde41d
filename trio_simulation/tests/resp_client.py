"""A client of Redis: just enough to compare two servers."""

from __future__ import annotations

from typing import Any

import trio


class Client:
    """Reads replies one by one. Sets become sorted lists, errors become `Refused`, pushed messages tuples."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def __call__(self, *fields: str | bytes | int) -> Any:
        await self.send(*fields)
        return await self.receive()

    async def send(self, *fields: str | bytes | int) -> None:
        parts = [each if isinstance(each, bytes) else str(each).encode() for each in fields]
        encoded = b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in parts)
        await self._stream.send_all(b"*%d\r\n%s" % (len(parts), encoded))

    async def receive(self) -> Any:
        line = await self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return Refused(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b",":
            return float(rest)
        if kind == b"#":
            return rest == b"t"
        if kind == b"_" or rest == b"-1":
            return None
        if kind == b"$":
            return (await self._exactly(int(rest) + 2))[:-2]
        if kind == b"=":
            return (await self._exactly(int(rest) + 2))[4:-2]
        if kind == b"%":
            return {_key(await self.receive()): await self.receive() for _ in range(int(rest))}
        values = [await self.receive() for _ in range(int(rest))]
        if kind == b"~":
            return sorted(values)
        return tuple(values) if kind == b">" else values

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            await self._more()
        line, _, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer[:] = rest
        return line

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _more(self) -> None:
        data = await self._stream.receive_some()
        if not data:
            raise EOFError
        self._buffer += data

    async def aclose(self) -> None:
        await self._stream.aclose()


class Refused(str):
    """An error that the server sent."""


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
