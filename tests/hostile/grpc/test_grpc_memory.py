"""Memory that one client can make the server keep, for itself and for the server as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from avion_media.grpc import Code, GrpcLimits
from tests.interop.raw_client import RawClient, data, message, raw_client, request_headers
from tests.interop.serving import echo_server
from tests.interop.wire import echo_pb2 as wire

LARGE = wire.EchoRequest(text="large", body=bytes(40_000), response_bytes=1)
_FRAME_BYTES = 16_384
_EXHAUSTED = str(int(Code.RESOURCE_EXHAUSTED))


def _call(client: RawClient, stream_id: int, path: str, body: bytes, *, end: bool) -> Iterator[bytes]:
    yield client.head(stream_id, request_headers(_path=path)).serialize()
    for at in range(0, len(body), _FRAME_BYTES):
        piece = body[at : at + _FRAME_BYTES]
        yield data(stream_id, piece, end=end and at + _FRAME_BYTES >= len(body)).serialize()


def _unfinished(client: RawClient, stream_id: int, path: str) -> Iterator[bytes]:
    """A call whose message has 60,000 bytes and lacks one."""
    return _call(client, stream_id, path, b"\0" + (60_001).to_bytes(4, "big") + bytes(60_000), end=False)


@pytest.mark.parametrize("path", ["/avion.test.Echo/Say", "/avion.test.Echo/Collect", "/grpc.health.v1.Health/Check"])
async def test_unfinished_messages_of_one_peer_leave_room_for_every_call_of_another(path: str) -> None:
    async with echo_server(GrpcLimits(max_buffered_bytes=1 << 20)) as server, AsyncExitStack() as held:
        for _ in range(4):
            attacker = await held.enter_async_context(raw_client(server.port, local_address="127.0.0.2"))
            await attacker.send(*(piece for n in range(1, 21, 2) for piece in _unfinished(attacker, n, path)))
        await attacker.read_until(lambda seen: any(seen.status(n) == _EXHAUSTED for n in range(1, 21, 2)))
        async with raw_client(server.port) as good:
            for n in range(1, 401, 2):
                await good.send(*_call(good, n, "/avion.test.Echo/Say", message(LARGE), end=True))
                await good.read_until(lambda seen, n=n: seen.status(n))  # type: ignore[misc]
            assert [good.status(n) for n in range(1, 401, 2)] == ["0"] * 200


async def test_services_that_need_no_more_take_messages_of_a_few_kib() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        for n, path in (
            (1, "/grpc.health.v1.Health/Check"),
            (3, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
        ):
            begun = b"\0" + (5000).to_bytes(4, "big")
            await client.send(client.head(n, request_headers(_path=path)), data(n, begun))
            await client.read_until(lambda seen, n=n: seen.status(n) == _EXHAUSTED)  # type: ignore[misc]
