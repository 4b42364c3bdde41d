"""Requests that no good client sends: each is refused, and the answer carries the safety headers all the same."""

from __future__ import annotations

import pytest
import trio

from trio_http1 import HttpLimits

from .serving import GET, SAFETY_HEADERS, Kind, attacked

MANY_FIELDS = b"".join(b"X-%d: 1\r\n" % number for number in range(200))


def head(*lines: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    """A request's head."""
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", b"Host: origin", *lines, b"", b""))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(head(b"X: " + b"x" * 20_000), 431, id="one long field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: origin\r\n" + MANY_FIELDS + b"\r\n", 431, id="many fields"),
        pytest.param(head(target=b"/" + b"x" * 20_000), 431, id="a long target"),
        pytest.param(head(b"Content-Length: 3") + b"abc", 400, id="GET with a body"),
        pytest.param(head(b"Content-Length: 3", method=b"HEAD") + b"abc", 400, id="HEAD with a body"),
        pytest.param(head(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 411, id="GET with chunks"),
        pytest.param(head(b"Content-Length: 99999999999", method=b"POST"), 413, id="a body too large"),
        pytest.param(head(b"Content-Length: 1", b"Content-Length: 2"), 400, id="two lengths"),
        pytest.param(head(b"Content-Length: -1"), 400, id="a negative length"),
        pytest.param(head(b"Content-Length: 1, 1"), 400, id="a list of lengths"),
        pytest.param(head(b"Transfer-Encoding: gzip, chunked"), 501, id="an unknown coding"),
        pytest.param(head(b"Transfer-Encoding: chunked", b"Content-Length: 3"), 411, id="chunks and a length"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: origin\r\n\r\n", 505, id="HTTP/2.0"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: origin\r\n\r\n", 505, id="HTTP/9.9"),
        pytest.param(b"GET /\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(head(b"Host: other"), 400, id="two hosts"),
        pytest.param(head(b"X : 1"), 400, id="a blank before the colon"),
        pytest.param(head(b"X: 1\r\n folded"), 200, id="a folded field"),
        pytest.param(head(b"X: a\x00b"), 400, id="a null byte"),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: origin\r\n\r\n", 400, id="a blank in the target"),
        pytest.param("GET /\u00e9 HTTP/1.1\r\nHost: origin\r\n\r\n".encode(), 400, id="a target beyond ASCII"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400, id="TLS"),
        pytest.param(b"\x00" * 64 + b"\r\n\r\n", 400, id="zeros"),
    ],
)
async def test_what_is_wrong_is_refused(request_bytes: bytes, status: int) -> None:
    async with attacked() as world, world.client() as client:
        await client.send(request_bytes)
        answer = await client.read_until(b"\r\n\r\n")
        assert int(answer.split(b" ")[1]) == status, answer
        if status != 200:
            told = answer.decode("ascii").lower()
            assert all(f"{name}: {value}".lower() in told for name, value in SAFETY_HEADERS.items())
            assert "connection: close" in told
            assert await client.read_to_end() == b""


H2C = head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
WEBSOCKET = head(
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.mark.parametrize("request_bytes", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
async def test_upgrades_are_ignored(request_bytes: bytes) -> None:
    async with attacked() as world, world.client() as client:
        await client.send(request_bytes)
        assert (await client.read_until(b"served")).startswith(b"HTTP/1.1 200")
        await client.get()


async def test_the_preface_in_pieces_is_refused_as_well() -> None:
    async with attacked() as world, world.client() as client:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            await client.send(bytes([byte]))
        assert b" 505 " in await client.read_to_end()


async def test_a_small_body_is_taken_where_there_may_be_one(kind: Kind) -> None:
    async with attacked(HttpLimits(max_body_bytes=1000), kind) as world, world.client() as client:
        await client.send(head(b"Content-Length: 1000", target=b"/body", method=b"POST") + b"x" * 1000)
        assert (await client.read_until(b"\r\n\r\n1000")).startswith(b"HTTP/1.1 200")
        await client.send(head(b"Content-Length: 1001", target=b"/body", method=b"POST") + b"x" * 1001)
        assert b" 413 " in await client.read_to_end()


async def test_a_body_that_is_not_wanted_is_not_waited_for(kind: Kind) -> None:
    async with attacked(kind=kind) as world, world.client() as client:
        await client.send(head(b"Expect: 100-continue", b"Content-Length: 70000", method=b"POST"))
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
        await client.read_to_end()
        async with world.client() as other:
            await other.send(head(b"Content-Length: 50000", method=b"DELETE") + b"x" * 10_000)
            assert (await other.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")
            await other.read_to_end()
        await world.until_connections(1)


@pytest.mark.parametrize(
    ("request_bytes", "body"),
    [
        pytest.param(head(b"Expect: 100-continue"), b"served", id="GET"),
        pytest.param(head(b"Expect: 100-continue", target=b"/nothing"), b"Not Found", id="not found"),
        pytest.param(
            head(b"Expect: 100-continue", b"Content-Length: 3", target=b"/body", method=b"POST") + b"abc",
            b"3",
            id="POST with its body",
        ),
    ],
)
async def test_an_expectation_never_mixes_two_heads(kind: Kind, request_bytes: bytes, body: bytes) -> None:
    async with attacked(kind=kind) as world:
        for _ in range(20):
            async with world.client() as client:
                await client.send(request_bytes)
                answer = await client.read_until(b"\r\n\r\n" + body)
                first, *others = answer.split(b"HTTP/1.1 ")[1:]
                interim = [first] if first.startswith(b"100") else []
                final = others if interim else [first]
                assert all(each.endswith(b"\r\n\r\n") for each in interim), answer
                assert len(final) == 1, answer
                assert final[0].partition(b"\r\n\r\n")[2] == body, answer


async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time(kind: Kind) -> None:
    async with attacked(kind=kind) as world, world.client() as client:
        await client.send(GET * 500)
        for _ in range(500):
            await client.read_until(b"served")


@pytest.mark.parametrize(
    "closing", [b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"]
)
async def test_what_is_pipelined_behind_a_closing_request_holds_up_nothing(closing: bytes) -> None:
    async with attacked() as world, world.client() as client:
        await client.send(closing + GET * 100)
        assert (await client.read_to_end()).count(b"HTTP/1.1 ") == 1  # 400 perhaps: nothing may follow (RFC 9112, 9.6)
        await world.until_connections(1)


async def test_an_answer_under_way_is_finished_although_nonsense_follows_its_request() -> None:
    async with attacked() as world:
        for _ in range(20):
            async with world.client() as client:
                await client.send(head(b"Connection: close"))
                await client.send(b"nonsense\r\n\r\n")
                assert (await client.read_to_end()).startswith(b"HTTP/1.1 ")


async def test_endless_pipelining_without_reading_is_cut() -> None:
    async with attacked(HttpLimits(write_timeout_s=0.3)) as world, world.client() as client:
        while not await _is_cut(client.stream, GET * 1000):
            pass
        await world.until_connections(1)


async def _is_cut(stream: trio.SocketStream, data: bytes) -> bool:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return True
    return False
