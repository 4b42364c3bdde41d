"""Memory that one client can make the server keep, for itself and for the server as a whole."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from h2.errors import ErrorCodes

from tests.interop.serving import echo_server
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code, GrpcLimits
from trio_grpc.tests.raw_client import RawClient, data, message, raw_client, request_headers, settings

LARGE = wire.EchoRequest(text="large", body=bytes(40_000), response_bytes=1)
_FRAME_BYTES = 16_384
_EXHAUSTED = str(int(Code.RESOURCE_EXHAUSTED))
_FULL = 2728  # entries of a SETTINGS frame of nearly 16 KiB


def _call(client: RawClient, stream_id: int, path: str, body: bytes, *, end: bool) -> Iterator[bytes]:
    yield client.head(stream_id, request_headers(_path=path)).serialize()
    for at in range(0, len(body), _FRAME_BYTES):
        piece = body[at : at + _FRAME_BYTES]
        yield data(stream_id, piece, end=end and at + _FRAME_BYTES >= len(body)).serialize()


def _unfinished(client: RawClient, stream_id: int, path: str) -> Iterator[bytes]:
    """A call whose message has 60,000 bytes and lacks one."""
    return _call(client, stream_id, path, b"\0" + (60_001).to_bytes(4, "big") + bytes(60_000), end=False)


def _settings_frame(names: range) -> bytes:
    payload = b"".join(struct.pack(">HL", name, 1) for name in names)
    return len(payload).to_bytes(3, "big") + b"\x04\0\0\0\0\0" + payload


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


async def test_settings_without_end_cost_neither_memory_nor_time() -> None:
    full = [_settings_frame(range(0x10 + _FULL * n, 0x10 + _FULL * (n + 1))) for n in range(24)]
    empty = settings().serialize() * 900
    async with echo_server() as server, raw_client(server.port) as attacker:
        attacker.answer_settings = False
        tracemalloc.start()
        before, cpu_s = tracemalloc.get_traced_memory()[0], time.process_time()
        for frame in full:
            await attacker.send(frame)
        await attacker.send(empty)
        await attacker.read_to_end()
        kept = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        print(f"\n{kept / 1e6:.1f} MB kept, {time.process_time() - cpu_s:.2f} s of CPU with tracemalloc")
        assert [frame.error_code for frame in attacker.goaways] == [ErrorCodes.ENHANCE_YOUR_CALM]
        assert kept < 5_000_000
