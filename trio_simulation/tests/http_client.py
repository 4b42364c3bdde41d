"""One request over HTTP/1.1."""

from __future__ import annotations

from collections.abc import Mapping

import h11
import trio


async def request(
    stream: trio.abc.HalfCloseableStream, method: str, host: str, target: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Send a request, and return status, headers by lower-case name, and body."""
    connection = h11.Connection(h11.CLIENT)
    sent = {"host": host, "content-length": str(len(body)), **headers}
    parts = [
        connection.send(h11.Request(method=method, target=target, headers=list(sent.items()))),
        connection.send(h11.Data(data=body)),
        connection.send(h11.EndOfMessage()),
    ]
    await stream.send_all(b"".join(part for part in parts if part))
    status, got, received = 0, dict[str, str](), bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(65536)))
        elif isinstance(event, h11.Response):
            status = event.status_code
            got = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            received += event.data
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return status, got, bytes(received)
