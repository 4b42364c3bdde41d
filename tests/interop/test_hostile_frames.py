"""Attacks with raw frames: each ends only the attacker's connection, within bounds, and a good client is served on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.interop.serving import EchoServer, echo_server
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code, GrpcLimits
from trio_grpc.tests.raw_client import (
    RawClient,
    data,
    message,
    pings,
    raw_client,
    request_headers,
    reset,
    settings,
    window_update,
)

HELLO = wire.EchoRequest(text="hello")
HANG = wire.EchoRequest(behaviour="hang")
MANY = 3000


@asynccontextmanager
async def attacked(limits: GrpcLimits | None = None) -> AsyncIterator[tuple[EchoServer, RawClient]]:
    """A server, an attacker's connection, and a good client that is served before and after."""
    async with echo_server(limits) as server, raw_client(server.port) as good, raw_client(server.port) as attacker:
        await _served(good, 1)
        yield server, attacker
        await _served(good, 3)
        assert not server.errors


async def _served(client: RawClient, stream_id: int) -> None:
    await client.send(client.call(stream_id, HELLO))
    await client.read_until(lambda seen: seen.status(stream_id) == "0")


async def _calmed(attacker: RawClient, pieces: Iterator[bytes] | AsyncIterator[bytes]) -> None:
    """Send the flood while reading; the answer must be GOAWAY with ENHANCE_YOUR_CALM, and the end."""
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            if isinstance(pieces, AsyncIterator):
                async for piece in pieces:
                    await attacker.send(piece)
            else:
                for piece in pieces:
                    await attacker.send(piece)

        nursery.start_soon(flood)
        await attacker.read_to_end()
        nursery.cancel_scope.cancel()
    # Who says GOAWAY is answered with it before.
    assert [frame.error_code for frame in attacker.goaways if frame.error_code] == [ErrorCodes.ENHANCE_YOUR_CALM]


def _in_pieces(frames: Iterator[bytes], per_piece: int = 100) -> Iterator[bytes]:
    piece: list[bytes] = []
    for frame in frames:
        piece.append(frame)
        if len(piece) == per_piece:
            yield b"".join(piece)
            piece.clear()
    yield b"".join(piece)


async def test_rapid_resets_are_calmed() -> None:
    async with attacked() as (server, attacker):
        flood = (attacker.call(2 * n + 1, HANG) + reset(2 * n + 1).serialize() for n in range(MANY))
        await _calmed(attacker, _in_pieces(flood))
        # What was still alive has been cancelled with the connection.
        await server.echo.until(lambda echo: echo.cancelled == echo.entered)
        assert server.server.calls == 0


async def test_resets_that_follow_in_a_packet_of_their_own_are_calmed() -> None:
    async with attacked() as (server, attacker):

        async def flood() -> AsyncIterator[bytes]:
            for n in range(MANY):
                yield attacker.call(2 * n + 1, HANG)
                await server.echo.until(lambda echo, n=n: echo.entered > n)
                yield reset(2 * n + 1).serialize()

        await _calmed(attacker, flood())
        await server.echo.until(lambda echo: echo.cancelled == echo.entered)


async def test_resets_that_the_server_is_made_to_send_are_calmed() -> None:
    async with attacked() as (server, attacker):
        headers = request_headers(_path="/avion.test.Echo/Collect")

        def flood() -> Iterator[bytes]:
            for n in range(1, 2 * MANY, 2):
                trailers = HeadersFrame(n, b"\x83", flags=["END_HEADERS", "END_STREAM"])  # with a pseudo-header
                frames = (attacker.head(n, headers), data(n, message(HANG)), trailers)
                yield b"".join(frame.serialize() for frame in frames)

        await _calmed(attacker, _in_pieces(flood()))
        await server.echo.until(lambda echo: echo.cancelled == echo.entered)


@pytest.mark.parametrize("frame", ["DATA", "HEADERS"])
async def test_frames_of_calls_that_are_over_are_calmed(frame: str) -> None:
    async with attacked() as (_, attacker):
        await _served(attacker, 1)
        late = data(1) if frame == "DATA" else attacker.head(1, [], end=True)
        await _calmed(attacker, _in_pieces(late.serialize() for _ in range(MANY)))


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(lambda: (ping.serialize() for ping in pings(MANY)), id="PING"),
        pytest.param(lambda: (settings().serialize() for _ in range(MANY)), id="SETTINGS"),
        pytest.param(lambda: (PingFrame(0, flags=["ACK"]).serialize() for _ in range(MANY)), id="PING ACK"),
        pytest.param(lambda: (GoAwayFrame(0).serialize() for _ in range(MANY)), id="GOAWAY"),
        pytest.param(lambda: (PriorityFrame(9, 3).serialize() for _ in range(MANY)), id="PRIORITY"),
        pytest.param(lambda: (window_update(0, 1).serialize() for _ in range(MANY)), id="WINDOW_UPDATE"),
        pytest.param(lambda: (b"\0\0\0\xee\0\0\0\0\0" for _ in range(MANY)), id="unknown frames"),
    ],
)
async def test_floods_of_frames_that_achieve_nothing_are_calmed(frames: Callable[[], Iterator[bytes]]) -> None:
    async with attacked() as (_, attacker):
        await _calmed(attacker, _in_pieces(frames()))


async def test_a_flood_of_empty_data_is_calmed() -> None:
    async with attacked() as (_, attacker):
        await attacker.send(attacker.head(1))
        await _calmed(attacker, _in_pieces(data(1).serialize() for _ in range(MANY)))


async def test_resets_of_calls_that_are_over_are_calmed() -> None:
    async with attacked() as (_, attacker):
        await _served(attacker, 1)
        await _calmed(attacker, _in_pieces(reset(1).serialize() for _ in range(MANY)))


async def test_endless_continuation_ends_the_connection() -> None:
    async with attacked() as (_, attacker):
        opening = HeadersFrame(1, attacker.head(1).data)
        await attacker.send(opening, *(ContinuationFrame(1, b"\x00\x01a\x01b" * 100) for _ in range(200)))
        await attacker.read_to_end()
        assert attacker.goaways


async def test_a_header_list_beyond_the_limit_ends_the_connection() -> None:
    async with attacked() as (_, attacker):
        # One entry of 4000 bytes in the table, referred to again and again: 20 KB decoded from a few bytes.
        headers = [*request_headers(), ("x-bomb", "b" * 3900)]
        block = attacker._encoder.encode(headers)
        await attacker.send(HeadersFrame(1, block, flags=["END_HEADERS"]))
        await attacker.send(HeadersFrame(3, block[:0] + b"\xbe" * 500, flags=["END_HEADERS"]))
        await attacker.read_to_end()
        assert attacker.goaways


async def test_streams_beyond_the_limit_are_refused_one_by_one() -> None:
    async with attacked(GrpcLimits(max_streams=4)) as (server, attacker):
        await attacker.send(*(attacker.call(2 * n + 1, HANG) for n in range(6)))
        await attacker.read_until(lambda seen: len(seen.resets()) == 2)
        assert attacker.resets() == {9: ErrorCodes.REFUSED_STREAM, 11: ErrorCodes.REFUSED_STREAM}
        server.echo.released.set()
        await attacker.read_until(lambda seen: all(seen.status(2 * n + 1) == "0" for n in range(4)))


async def test_the_limit_of_streams_is_announced() -> None:
    async with attacked(GrpcLimits(max_streams=7)) as (_, attacker):
        announced = attacker.of(SettingsFrame)[0]
        assert isinstance(announced, SettingsFrame)
        assert announced.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 7


async def test_calls_beyond_the_handlers_are_answered_resource_exhausted() -> None:
    async with attacked(GrpcLimits(max_calls=4)) as (server, attacker):
        await attacker.send(*(attacker.call(2 * n + 1, HANG) for n in range(3)))
        await attacker.read_until(lambda seen: seen.status(5) == str(int(Code.RESOURCE_EXHAUSTED)))
        server.echo.released.set()
        await attacker.read_until(lambda seen: seen.status(1) == seen.status(3) == "0")


async def test_far_too_many_streams_end_the_connection() -> None:
    async with attacked(GrpcLimits(max_streams=4, max_flood_units=100_000)) as (_, attacker):
        await attacker.send(*(attacker.head(2 * n + 1) for n in range(4)))
        await attacker.send(*(attacker.head(2 * n + 1, end=False) for n in range(4, 1500)))
        await attacker.read_until(lambda seen: len(seen.of(RstStreamFrame)) >= 100 or seen.goaways)


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM", id="half a preface"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="no settings"),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings().serialize() + b"\0\0\x10\x01", id="half a frame header"
        ),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings().serialize() + b"\0\0\x10\x01\0\0\0\0\x01", id="no payload"
        ),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings().serialize() + b"\0\0\x01\x01\0\0\0\0\x01\x83",
            id="no end of the headers",
        ),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_who_does_not_finish_what_was_begun_is_sent_away(beginning: bytes) -> None:
    limits = GrpcLimits(header_timeout_s=0.1)
    async with echo_server(limits) as server, raw_client(server.port, preface=False) as client:
        client.answer_settings = False
        await client.send(beginning)
        await client.read_to_end()
        assert [frame.error_code for frame in client.goaways] == [ErrorCodes.ENHANCE_YOUR_CALM]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(64), b"\xff" * 64])
async def test_other_protocols_are_refused(garbage: bytes) -> None:
    async with attacked() as (server, _), raw_client(server.port, preface=False) as client:
        await client.send(garbage)
        await client.read_to_end()


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param(data(1, b"x").serialize(), ErrorCodes.PROTOCOL_ERROR, id="data on an idle stream"),
        pytest.param(b"\0\x40\x01\0\0\0\0\0\x01", ErrorCodes.FRAME_SIZE_ERROR, id="frame too large"),
        pytest.param(window_update(0, 2**31 - 1).serialize(), ErrorCodes.FLOW_CONTROL_ERROR, id="window overflow"),
        pytest.param(settings({0x4: 2**31}).serialize(), ErrorCodes.FLOW_CONTROL_ERROR, id="impossible settings"),
        pytest.param(b"\0\0\x01\x01\x04\0\0\0\x02\x83", ErrorCodes.PROTOCOL_ERROR, id="an even stream"),
        pytest.param(b"\0\0\x01\x01\x04\0\0\0\x01\xff", ErrorCodes.COMPRESSION_ERROR, id="broken header block"),
        pytest.param(b"\0\0\x05\x05\x04\0\0\0\x01\0\0\0\x02\x83", ErrorCodes.PROTOCOL_ERROR, id="push promise"),
    ],
)
async def test_errors_of_the_connection_end_it_with_their_code(frames: bytes, code: ErrorCodes) -> None:
    async with attacked() as (_, attacker):
        await attacker.send(frames)
        await attacker.read_to_end()
        assert [frame.error_code for frame in attacker.goaways] == [code]


async def test_a_message_beyond_the_limit_is_refused_by_its_prefix() -> None:
    async with attacked(GrpcLimits(max_message_bytes=1000)) as (_, attacker):
        await attacker.send(attacker.head(1), data(1, b"\0" + (1001).to_bytes(4, "big")))
        await attacker.read_until(lambda seen: seen.status(1) == str(int(Code.RESOURCE_EXHAUSTED)))
        # The client is told to stop sending: the response is complete.
        await attacker.read_until(lambda seen: seen.resets() == {1: ErrorCodes.NO_ERROR})
        await attacker.send(data(1, bytes(500)), attacker.call(3, HELLO))
        await attacker.read_until(lambda seen: seen.status(3) == "0")


async def test_all_clients_together_cannot_fill_the_memory_with_beginnings() -> None:
    async with attacked(GrpcLimits(max_buffered_bytes=80_000)) as (_, attacker):
        beginning = b"\0" + (1 << 20).to_bytes(4, "big") + bytes(15_000)
        await attacker.send(*(piece for n in (1, 3, 5) for piece in (attacker.head(n), data(n, beginning))))
        await attacker.read_until(lambda seen: seen.status(5) == str(int(Code.RESOURCE_EXHAUSTED)))
        assert attacker.status(1) is attacker.status(3) is None
        await attacker.send(reset(1), reset(3), attacker.head(7), data(7, beginning), data(7, bytes(15_000)))
        await attacker.send(attacker.call(9, HELLO))
        await attacker.read_until(lambda seen: seen.status(9) == "0")
        assert attacker.status(7) is None


@pytest.mark.parametrize("method", ["Say", "Collect"])
async def test_all_clients_together_cannot_fill_the_memory_with_messages_that_no_handler_takes(method: str) -> None:
    async with attacked(GrpcLimits(max_buffered_bytes=80_000)) as (_, attacker):
        headers = request_headers(_path=f"/avion.test.Echo/{method}")
        begun = [] if method == "Say" else [data(n, message(HANG)) for n in (1, 3, 5)]
        await attacker.send(*(attacker.head(n, headers) for n in (1, 3, 5)), *begun)
        whole = message(wire.EchoRequest(body=bytes(15_000)))
        await attacker.send(*(data(n, whole) for n in (1, 3, 5)))
        await attacker.read_until(lambda seen: seen.status(5) == str(int(Code.RESOURCE_EXHAUSTED)))
        assert attacker.status(1) is attacker.status(3) is None
        await attacker.send(reset(1), reset(3))


async def test_a_request_that_does_not_arrive_holds_no_handler_and_is_ended() -> None:
    async with attacked(GrpcLimits(request_timeout_s=0.2)) as (server, attacker):
        await attacker.send(attacker.head(1), data(1, message(HELLO)[:3]))
        await attacker.read_until(lambda seen: seen.status(1) == str(int(Code.DEADLINE_EXCEEDED)))
        assert server.echo.entered == 0


async def test_a_client_that_opens_no_window_loses_the_call_but_not_the_connection() -> None:
    limits = GrpcLimits(write_timeout_s=0.2)
    async with echo_server(limits) as server, raw_client(server.port, {0x4: 0}) as client:
        await client.send(client.call(1, wire.EchoRequest(response_bytes=100)))
        await client.read_until(lambda seen: seen.resets() == {1: ErrorCodes.CANCEL})
        await client.send(settings({0x4: 65_535}), client.call(3, HELLO))
        await client.read_until(lambda seen: seen.status(3) == "0")


async def test_a_client_that_does_not_read_loses_the_connection() -> None:
    limits = GrpcLimits(write_timeout_s=0.3)
    async with echo_server(limits) as server, raw_client(server.port, {0x4: 2**31 - 1}) as client:
        repeat = request_headers(_path="/avion.test.Echo/Repeat")
        endless = wire.EchoRequest(text="on", response_bytes=60_000)
        await client.send(window_update(0, 2**30), client.call(1, endless, repeat))
        await server.until_ended(1)
        assert server.codes() == [Code.CANCELLED]
        # What the kernel's buffers took, and 256 KiB of ours: the handler was held back.
        assert server.echo.sent < 400


async def test_connections_beyond_the_limit_are_closed() -> None:
    async with echo_server(GrpcLimits(max_connections=1)) as server, raw_client(server.port) as first:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as second:
            assert await second.receive_some() == b""
        await _served(first, 1)


async def test_a_client_that_answers_no_ping_is_given_up() -> None:
    limits = GrpcLimits(keepalive_interval_s=0.1, keepalive_timeout_s=0.1)
    async with echo_server(limits) as server, raw_client(server.port) as client:
        await client.read_to_end()
        assert client.of(PingFrame)


async def test_an_idle_connection_is_sent_away() -> None:
    async with echo_server(GrpcLimits(idle_timeout_s=0.1)) as server, raw_client(server.port) as client:
        await client.read_to_end()
        assert [frame.error_code for frame in client.goaways] == [ErrorCodes.NO_ERROR] * 2


async def test_an_old_connection_is_drained_with_its_calls() -> None:
    async with echo_server(GrpcLimits(max_age_s=0.1)) as server, raw_client(server.port) as client:
        await client.send(client.call(1, HANG))
        await client.read_until(lambda seen: len(seen.goaways) == 2)
        server.echo.released.set()
        await client.read_until(lambda seen: seen.status(1) == "0")
        await client.read_to_end()
