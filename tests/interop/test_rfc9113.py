"""Frames and messages as RFC 9113 wants them (sections 4, 5.1, 6 and 8), written from its text."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame

from tests.interop.serving import echo_server
from tests.interop.wire import echo_pb2 as wire
from trio_grpc.tests.raw_client import (
    Headers,
    RawClient,
    data,
    message,
    raw_client,
    request_headers,
    settings,
    window_update,
)

HELLO = wire.EchoRequest(text="hello")
PROTOCOL, SIZE = ErrorCodes.PROTOCOL_ERROR, ErrorCodes.FRAME_SIZE_ERROR
FLOW, CLOSED = ErrorCodes.FLOW_CONTROL_ERROR, ErrorCodes.STREAM_CLOSED
_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """A frame, whatever it may mean."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


_CONNECTION_ERRORS = [
    ("DATA on stream 0", frame(_DATA, b"x"), PROTOCOL),
    ("DATA on an idle stream", frame(_DATA, b"x", stream=1), PROTOCOL),
    ("HEADERS on stream 0", frame(_HEADERS, b"\x83", flags=4), PROTOCOL),
    ("HEADERS on an even stream", frame(_HEADERS, b"\x83", flags=4, stream=2), PROTOCOL),
    ("HEADERS padded beyond their end", frame(_HEADERS, b"\x05\x83", flags=0xC, stream=1), PROTOCOL),
    ("RST_STREAM on stream 0", frame(_RST, bytes(4)), PROTOCOL),
    ("RST_STREAM on an idle stream", frame(_RST, bytes(4), stream=1), PROTOCOL),
    ("RST_STREAM of 3 bytes", frame(_RST, bytes(3), stream=1), SIZE),
    ("SETTINGS on a stream", frame(_SETTINGS, stream=1), PROTOCOL),
    ("SETTINGS of 5 bytes", frame(_SETTINGS, bytes(5)), SIZE),
    ("SETTINGS ACK with a payload", frame(_SETTINGS, bytes(6), flags=1), SIZE),
    ("SETTINGS ACK that nobody awaits", frame(_SETTINGS, flags=1) * 2, PROTOCOL),
    ("ENABLE_PUSH of 2", frame(_SETTINGS, b"\0\2\0\0\0\2"), PROTOCOL),
    ("INITIAL_WINDOW_SIZE beyond its limit", frame(_SETTINGS, b"\0\4\x80\0\0\0"), FLOW),
    ("MAX_FRAME_SIZE below its limit", frame(_SETTINGS, b"\0\5\0\0\x3f\xff"), PROTOCOL),
    ("MAX_FRAME_SIZE beyond its limit", frame(_SETTINGS, b"\0\5\1\0\0\0"), PROTOCOL),
    ("PUSH_PROMISE", frame(_PUSH, b"\0\0\0\2\x83", flags=4, stream=1), PROTOCOL),
    ("PING on a stream", frame(_PING, bytes(8), stream=1), PROTOCOL),
    ("PING of 7 bytes", frame(_PING, bytes(7)), SIZE),
    ("GOAWAY on a stream", frame(_GOAWAY, bytes(8), stream=1), PROTOCOL),
    ("GOAWAY of 7 bytes", frame(_GOAWAY, bytes(7)), SIZE),
    ("WINDOW_UPDATE of zero", frame(_WINDOW, bytes(4)), PROTOCOL),
    ("WINDOW_UPDATE of 3 bytes", frame(_WINDOW, bytes(3)), SIZE),
    ("WINDOW_UPDATE on an idle stream", frame(_WINDOW, b"\0\0\0\1", stream=1), PROTOCOL),
    ("WINDOW_UPDATE that overflows", frame(_WINDOW, b"\x7f\xff\xff\xff"), FLOW),
    ("CONTINUATION without HEADERS", frame(_CONTINUATION, b"\x83", flags=4, stream=1), PROTOCOL),
    ("a block with another frame in it", frame(_HEADERS, b"\x83", stream=1) + frame(_PING, bytes(8)), PROTOCOL),
    ("a block of two streams", frame(_HEADERS, b"\x83", stream=1) + frame(_CONTINUATION, stream=3, flags=4), PROTOCOL),
    ("a block with an unknown frame in it", frame(_HEADERS, b"\x83", stream=1) + frame(0xEE), PROTOCOL),
    ("a block that cannot be decoded", frame(_HEADERS, b"\x80", flags=4, stream=1), ErrorCodes.COMPRESSION_ERROR),
    ("a frame of 16,385 bytes", frame(_DATA, bytes(16_385), stream=1), SIZE),
]


def _cases(cases: list[tuple[str, bytes, ErrorCodes]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("sent", "code"), [case[1:] for case in cases], ids=[case[0] for case in cases])


@_cases(_CONNECTION_ERRORS)
async def test_errors_of_the_connection(sent: bytes, code: ErrorCodes) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(sent)
        await client.read_to_end()
        assert [each.error_code for each in client.goaways if each.error_code] == [code]
        assert not server.errors


async def _served(client: RawClient, stream_id: int) -> None:
    await client.send(client.call(stream_id, HELLO))
    await client.read_until(lambda seen: seen.status(stream_id) == "0")


async def test_a_stream_that_begins_below_the_highest_is_ignored() -> None:
    """RFC 9113, 5.1.1 wants the connection to end. nghttp2 cannot tell it from trailers of a call that it has reset."""
    async with echo_server() as server, raw_client(server.port) as client:
        await _served(client, 5)
        await client.send(client.head(3))
        await _served(client, 7)
        assert client.status(3) is None


async def test_data_after_the_end_ends_the_connection() -> None:
    """RFC 9113, 5.1 wants only the stream to end, as long as its response has not ended."""
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.call(1, wire.EchoRequest(behaviour="hang")), data(1, b"late"))
        await client.read_to_end()
        assert [each.error_code for each in client.goaways] == [CLOSED]


async def test_a_window_of_a_stream_that_overflows_ends_the_connection() -> None:
    """RFC 9113, 6.9.1 wants only the stream to end; 5.4.1 lets a server end the connection instead."""
    async with echo_server() as server, raw_client(server.port) as client:
        call = client.call(1, wire.EchoRequest(behaviour="hang"))
        await client.send(call, window_update(1, 2**31 - 1))
        await client.read_to_end()
        assert [each.error_code for each in client.goaways] == [FLOW]


_STREAM_ERRORS = [
    ("trailers with a pseudo header", frame(_HEADERS, b"\x83", flags=5, stream=1), PROTOCOL),
    ("trailers that do not end the request", frame(_HEADERS, b"\0\1x\1y", flags=4, stream=1), PROTOCOL),
    ("trailers with a name in upper case", frame(_HEADERS, b"\0\1X\1y", flags=5, stream=1), PROTOCOL),
]


@_cases(_STREAM_ERRORS)
async def test_errors_of_a_stream_leave_the_connection(sent: bytes, code: ErrorCodes) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        headers = request_headers(_path="/avion.test.Echo/Collect")
        await client.send(client.head(1, headers), data(1, message(wire.EchoRequest(behaviour="hang"))))
        await server.echo.until(lambda echo: echo.entered == 1)
        await client.send(sent)
        await client.read_until(lambda seen: seen.resets())
        assert client.resets() == {1: code}
        await _served(client, 3)


@pytest.mark.parametrize(
    ("length", "is_served"), [("{}", True), ("1", False), ("0", False), ("x", False), ("-1", False), ("{},{}", False)]
)
async def test_content_length_agrees_with_the_data(length: str, is_served: bool) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        body = message(HELLO)
        headers = [*request_headers(), ("content-length", length.replace("{}", str(len(body))))]
        await client.send(client.call(1, HELLO, headers))
        await client.read_until(lambda seen: seen.status(1) or seen.resets())
        assert (client.status(1) == "0") is is_served
        assert client.resets() == ({} if is_served else {1: PROTOCOL})
        await _served(client, 3)


_IGNORED = [
    ("an unknown type", frame(0xEE, b"payload")),
    ("an unknown type on a stream", frame(0xEE, b"payload", stream=7)),
    ("PRIORITY on stream 0, which RFC 9113, 6.3 wants to be an error", frame(_PRIORITY, bytes(5))),
    ("PRIORITY on an idle stream", frame(_PRIORITY, b"\0\0\0\3\x10", stream=9)),
    ("an unknown setting", frame(_SETTINGS, b"\xab\xcd\0\0\0\1")),
    ("SETTINGS without entries", frame(_SETTINGS)),
    ("unknown flags", frame(_PING, bytes(8), flags=0xFE)),
    ("a reserved bit", frame(_PING, bytes(8), stream=0x80000000)),
]


@pytest.mark.parametrize("sent", [case[1] for case in _IGNORED], ids=[case[0] for case in _IGNORED])
async def test_what_has_to_be_ignored_is(sent: bytes) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(sent)
        await _served(client, 1)
        assert not client.goaways


async def test_padding_may_fill_the_rest_of_a_frame() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.head(1))
        body = message(HELLO)
        await client.send(frame(_DATA, b"\x05" + body + bytes(5), flags=0x9, stream=1))
        await client.read_until(lambda seen: seen.status(1) == "0")


async def test_padding_longer_than_its_frame_ends_the_connection() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.head(1), frame(_DATA, b"\x05abcd", flags=0x8, stream=1))
        await client.read_to_end()
        assert [each.error_code for each in client.goaways] == [PROTOCOL]


async def test_a_block_may_be_cut_at_each_byte() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        block = client.head(1).data
        frames: list[HeadersFrame | ContinuationFrame] = [HeadersFrame(1, block[:1])]
        frames += [ContinuationFrame(1, block[at : at + 1]) for at in range(1, min(len(block), 50))]
        frames[-1].data += block[50:]
        frames[-1].flags.add("END_HEADERS")
        await client.send(*frames, data(1, message(HELLO), end=True))
        await client.read_until(lambda seen: seen.status(1) == "0")


async def test_a_ping_is_answered_with_its_payload() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(frame(_PING, b"12345678"))
        await client.read_until(lambda seen: seen.of(PingFrame))
        (answer,) = client.of(PingFrame)
        assert isinstance(answer, PingFrame)
        assert "ACK" in answer.flags
        assert answer.opaque_data == b"12345678"


async def test_the_initial_window_changes_for_calls_in_flight_and_may_become_negative() -> None:
    async with echo_server() as server, raw_client(server.port, {0x4: 50}) as client:
        await client.send(client.call(1, wire.EchoRequest(response_bytes=200)))
        await client.read_until(lambda seen: len(seen.body(1)) == 50)
        await client.send(settings({0x4: 10}))  # 40 less than nothing
        await client.send(window_update(1, 41))
        await client.read_until(lambda seen: len(seen.body(1)) == 51)
        await client.send(settings({0x4: 65_535}))
        await client.read_until(lambda seen: seen.status(1) == "0")


@pytest.mark.parametrize("cut", range(1, 12))
async def test_a_message_may_be_cut_at_each_byte(cut: int) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        body = message(HELLO)
        await client.send(client.head(1), data(1, body[:cut]), data(1, body[cut:], end=True))
        await client.read_until(lambda seen: seen.status(1) == "0")


_MALFORMED: list[tuple[str, Headers]] = [
    ("no scheme", request_headers(_scheme=None)),
    ("a pseudo header of responses", [(":status", "200"), *request_headers()]),
    ("an unknown pseudo header", [(":unknown", "x"), *request_headers()]),
    ("keep-alive", [*request_headers(), ("keep-alive", "1")]),
    ("transfer-encoding", [*request_headers(), ("transfer-encoding", "chunked")]),
    ("upgrade", [*request_headers(), ("upgrade", "h2c")]),
    ("an empty name", [*request_headers(), ("", "x")]),
    ("a NUL in a value", [*request_headers(), ("x", "a\0b")]),
    ("a value with a blank around it", [*request_headers(), ("x", " a")]),
]


@pytest.mark.parametrize("headers", [case[1] for case in _MALFORMED], ids=[case[0] for case in _MALFORMED])
async def test_malformed_requests_are_reset(headers: Headers) -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        await client.send(client.head(1, headers, end=True))
        await client.read_until(lambda seen: seen.resets())
        assert client.resets() == {1: PROTOCOL}
        await _served(client, 3)
