"""Requests at the edge of the protocol, frame by frame."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import HeadersFrame

from tests.interop.serving import echo_server
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code
from trio_grpc.tests.raw_client import RawClient, data, message, raw_client, request_headers, window_update

HELLO = wire.EchoRequest(text="hello")


def _code(client: RawClient, stream_id: int = 1) -> Code | None:
    status = client.status(stream_id)
    return None if status is None else Code(int(status))


async def test_a_response_has_headers_a_message_and_trailers() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO))
        await client.read_until(lambda seen: seen.status(1))
        headers, trailers = client.headers[1]
        assert headers == [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-accept-encoding", "identity,gzip"),
        ]
        assert trailers == [("grpc-status", "0")]
        body = client.body(1)
        assert wire.EchoResponse.FromString(body[5:]).text == "hello"
        assert body[:5] == b"\0" + (len(body) - 5).to_bytes(4, "big")


async def test_an_error_before_the_first_message_is_one_header_block() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, wire.EchoRequest(behaviour="refuse")))
        await client.read_until(lambda seen: seen.status(1))
        frames = [frame for frame in client.frames if frame.stream_id == 1]
        assert len(frames) == 1
        assert isinstance(frames[0], HeadersFrame)
        assert "END_STREAM" in frames[0].flags
        sent = dict(client.headers[1][0])
        assert sent[":status"] == "200"
        assert sent["grpc-message"] == "50 %25 of %C2%ABit%C2%BB is bad%0A"
        assert "=" not in sent["grpc-status-details-bin"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/grpc-web", "application/grpc+json"])
async def test_another_content_type_is_415(content_type: str | None) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO, request_headers(content_type=content_type)))
        await client.read_until(lambda seen: seen.headers.get(1))
        assert client.headers[1] == [[(":status", "415")]]


async def test_connect_is_405_and_no_more() -> None:
    """It has no path (RFC 9113, 8.5)."""
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO, request_headers(_method="CONNECT", _path=None, _scheme=None)))
        await client.send(client.call(3, HELLO))
        await client.read_until(lambda seen: seen.status(3))
        assert (":status", "405") in client.headers[1][0]
        assert not server.errors


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_variants_of_the_content_type_are_served(content_type: str) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO, request_headers(content_type=content_type)))
        await client.read_until(lambda seen: _code(seen) is Code.OK)


async def test_another_http_method_is_405() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.head(1, request_headers(_method="GET"), end=True))
        await client.read_until(lambda seen: seen.headers.get(1))
        assert client.headers[1][0][0] == (":status", "405")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(request_headers(_path=None), id="no path"),
        pytest.param(request_headers(_path=""), id="empty path"),
        pytest.param(request_headers(_method=None), id="no method"),
        pytest.param([*request_headers(), (":path", "/other")], id="repeated pseudo header"),
        pytest.param([("te", "trailers"), *request_headers(te=None)], id="late pseudo headers"),
        pytest.param([*request_headers(), ("Upper", "case")], id="upper case"),
        pytest.param([*request_headers(), ("connection", "close")], id="connection specific"),
        pytest.param([*request_headers(), ("x", "a\r\nb")], id="line break"),
        pytest.param([*request_headers(), ("x y", "a")], id="blank in a name"),
        pytest.param(request_headers(te="gzip"), id="te"),
    ],
)
async def test_malformed_requests_are_reset_and_the_connection_goes_on(headers: list[tuple[str, str]]) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO, headers), client.call(3, HELLO))
        await client.read_until(lambda seen: _code(seen, 3) is Code.OK)
        assert client.resets() == {1: ErrorCodes.PROTOCOL_ERROR}


async def test_binary_metadata_that_is_not_base64_is_refused() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO, [*request_headers(), ("x-bin", "a?b")]))
        await client.read_until(lambda seen: seen.status(1))
        assert _code(client) is Code.INTERNAL


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", Code.UNIMPLEMENTED, id="no message"),
        pytest.param(message(HELLO) * 2, Code.UNIMPLEMENTED, id="two messages"),
        pytest.param(message(HELLO, flag=1), Code.INTERNAL, id="compressed without an encoding"),
        pytest.param(message(HELLO)[:-1], Code.INVALID_ARGUMENT, id="cut within the message"),
        pytest.param(message(HELLO)[:3], Code.INVALID_ARGUMENT, id="cut within the prefix"),
        pytest.param(message(b"\xff\xff"), Code.INVALID_ARGUMENT, id="no protobuf"),
    ],
)
async def test_bodies_that_are_not_one_message(body: bytes, code: Code) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.head(1), data(1, body, end=True))
        await client.read_until(lambda seen: seen.status(1))
        assert _code(client) is code
        await server.until_ended(1)
        assert server.codes() == [code]
        assert not server.errors


async def test_a_message_in_many_frames_with_padding_and_empty_ones() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.head(1))
        for byte in message(wire.EchoRequest(text="piecemeal")):
            padded = data(1, bytes([byte]))
            padded.flags.add("PADDED")
            padded.pad_length = 9
            await client.send(padded, data(1))
        await client.send(data(1, end=True))
        await client.read_until(lambda seen: seen.status(1))
        assert wire.EchoResponse.FromString(client.body(1)[5:]).text == "piecemeal"


async def test_trailers_of_a_request_end_it() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.head(1), data(1, message(HELLO)), client.head(1, [("x-sum", "1")], end=True))
        await client.read_until(lambda seen: _code(seen) is Code.OK)


async def test_headers_that_change_from_call_to_call_are_never_mixed_up() -> None:
    """The decoder's memo must see through a table that changes between equal blocks."""
    async with echo_server() as server, raw_client(server.port) as client:
        for number in range(40):
            headers = [*request_headers(), ("x-number", str(number // 4))]
            await client.send(client.call(2 * number + 1, HELLO, headers))
            await client.read_until(lambda seen, stream_id=2 * number + 1: seen.status(stream_id))  # type: ignore[misc]
            seen = wire.EchoResponse.FromString(client.body(2 * number + 1)[5:]).seen
            assert seen["x-number"] == str(number // 4)


async def test_a_zero_header_table_of_the_client_is_respected() -> None:
    async with echo_server() as server, raw_client(server.port, {0x1: 0}) as client:
        client._decoder.max_allowed_table_size = 0
        for stream_id in (1, 3):
            await client.send(client.call(stream_id, HELLO))
            await client.read_until(lambda seen, stream_id=stream_id: seen.status(stream_id) == "0")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("timeout", "code"),
    [("100m", Code.DEADLINE_EXCEEDED), ("0S", Code.DEADLINE_EXCEEDED), ("", Code.INVALID_ARGUMENT)]
    + [(bad, Code.INVALID_ARGUMENT) for bad in ("1", "1s", "123456789S", "-1S", "1.5S")],
)
async def test_timeouts(timeout: str, code: Code) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        headers = [*request_headers(), ("grpc-timeout", timeout)]
        await client.send(client.call(1, wire.EchoRequest(behaviour="hang"), headers))
        await client.read_until(lambda seen: seen.status(1))
        assert _code(client) is code
        assert server.echo.cancelled == server.echo.entered


async def test_a_window_that_opens_bit_by_bit_lets_the_response_through() -> None:
    async with echo_server() as server, raw_client(server.port, {0x4: 10}) as client:
        await client.send(client.call(1, wire.EchoRequest(response_bytes=100)))
        while _code(client) is None:
            before = len(client.frames)
            await client.read_until(lambda seen, before=before: len(seen.frames) > before)  # type: ignore[misc]
            if client.frames[-1].stream_id == 1:
                await client.send(window_update(1, 10))
        assert len(wire.EchoResponse.FromString(client.body(1)[5:]).body) == 100
