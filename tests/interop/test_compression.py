"""Compressed messages: gzip in both directions, bounded; everything else is refused in the words of gRPC."""

from __future__ import annotations

import gzip
import zlib

import grpc
import pytest

from tests.interop.methods import TIMEOUT_S, collect, say
from tests.interop.serving import echo_server, with_grpcio
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code, GrpcLimits
from trio_grpc.tests.raw_client import Headers, RawClient, data, message, raw_client, request_headers

GZIP: Headers = [*request_headers(), ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity, gzip")]
LARGE = wire.EchoRequest(text="large", body=b"avion " * 10_000)


async def test_grpcio_compresses_requests_and_reads_compressed_responses() -> None:
    async with echo_server() as server:

        def client(channel: grpc.Channel) -> tuple[int, str]:
            call = {"timeout": TIMEOUT_S, "compression": grpc.Compression.Gzip}
            said = say(channel)(LARGE, metadata=[("x-compress", "1")], **call)
            return len(said.body), collect(channel)(iter([LARGE] * 3), **call).seen["bytes"]

        assert await with_grpcio(server, client) == (60_000, "180000")


async def _answer(client: RawClient, stream_id: int, headers: Headers, body: bytes) -> Code:
    await client.send(client.head(stream_id, headers), data(stream_id, body, end=True))
    await client.read_until(lambda seen: seen.status(stream_id))
    return Code(int(client.status(stream_id) or 0))


def _compressed(payload: bytes) -> bytes:
    return message(gzip.compress(payload), flag=1)


async def test_a_stream_of_messages_may_be_compressed_in_part() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        hello = wire.EchoRequest(text="a").SerializeToString()
        body = _compressed(hello) + message(hello) + _compressed(hello)
        path = [(":path", "/avion.test.Echo/Collect") if name == ":path" else (name, value) for name, value in GZIP]
        assert await _answer(client, 1, path, body) is Code.OK
        assert wire.EchoResponse.FromString(client.body(1)[5:]).text == "aaa"


async def test_responses_are_compressed_if_the_handler_asks_and_the_client_accepts() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        accepts = ("grpc-accept-encoding", "identity,gzip")
        asked = [*request_headers(), ("x-compress", "1")]
        for stream_id, headers, is_compressed in ((1, [*asked, accepts], True), (3, asked, False), (5, GZIP, False)):
            answer = wire.EchoRequest(response_bytes=5000)
            await client.send(client.call(stream_id, answer, headers))
            await client.read_until(lambda seen, stream_id=stream_id: seen.status(stream_id) == "0")  # type: ignore[misc]
            body = client.body(stream_id)
            assert body[0] == is_compressed
            assert (("grpc-encoding", "gzip") in client.headers[stream_id][0]) is is_compressed
            payload = zlib.decompress(body[5:], 31) if is_compressed else body[5:]
            assert len(wire.EchoResponse.FromString(payload).body) == 5000


async def test_small_responses_are_sent_as_they_are() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        headers = [*GZIP, ("x-compress", "1")]
        await client.send(client.call(1, wire.EchoRequest(response_bytes=10), headers))
        await client.read_until(lambda seen: seen.status(1) == "0")
        assert client.body(1)[0] == 0


async def test_a_bomb_is_inflated_no_further_than_a_message_may_be() -> None:
    async with echo_server(GrpcLimits(max_message_bytes=100_000)) as server, raw_client(server.port) as client:
        bomb = _compressed(bytes(50 << 20))
        assert len(bomb) < 60_000
        await client.send(client.head(1, GZIP))
        await client.send(*(data(1, bomb[at : at + 16_384]) for at in range(0, len(bomb), 16_384)), data(1, end=True))
        await client.read_until(lambda seen: seen.status(1) == str(int(Code.RESOURCE_EXHAUSTED)))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(message(b"not gzip", flag=1), Code.INTERNAL, id="not gzip"),
        pytest.param(message(gzip.compress(b"x" * 50)[:-9], flag=1), Code.INTERNAL, id="cut short"),
        pytest.param(message(gzip.compress(b"") * 2, flag=1), Code.INTERNAL, id="more after its end"),
        pytest.param(message(b"", flag=1), Code.INTERNAL, id="empty"),
        pytest.param(message(gzip.compress(b"\xff\xff"), flag=1), Code.INVALID_ARGUMENT, id="no protobuf inside"),
        pytest.param(message(b"", flag=2), Code.INTERNAL, id="another flag"),
        pytest.param(message(b"", flag=0), Code.OK, id="not compressed"),
    ],
)
async def test_messages_under_grpc_encoding_gzip(body: bytes, code: Code) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        assert await _answer(client, 1, GZIP, body) is code
        assert not server.errors


@pytest.mark.parametrize(
    ("encoding", "flag", "code"),
    [("identity", 1, Code.INTERNAL), (None, 1, Code.INTERNAL), ("deflate", 0, Code.UNIMPLEMENTED), ("", 0, Code.OK)],
)
async def test_other_encodings(encoding: str | None, flag: int, code: Code) -> None:
    headers = request_headers() if encoding is None else [*request_headers(), ("grpc-encoding", encoding)]
    async with echo_server() as server, raw_client(server.port) as client:
        assert await _answer(client, 1, headers, message(b"", flag=flag)) is code
        if code is Code.UNIMPLEMENTED:
            assert ("grpc-accept-encoding", "identity,gzip") in client.headers[1][0]


async def test_a_response_beyond_the_limit_is_an_error_that_is_reported() -> None:
    async with echo_server(GrpcLimits(max_send_bytes=1000)) as server, raw_client(server.port) as client:
        await client.send(client.call(1, wire.EchoRequest(response_bytes=2000)))
        await client.read_until(lambda seen: seen.status(1) == str(int(Code.RESOURCE_EXHAUSTED)))
        assert len(server.errors) == 1
