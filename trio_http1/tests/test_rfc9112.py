"""RFC 9112: messages, connections."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from ipaddress import ip_network

import pytest
import trio

from trio_http1 import HttpLimits

from .serving import logged
from .wire import head, serving


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a/b", "/a/b", None),
        (b"/a?b=c?d", "/a", "b=c?d"),
        (b"/a?", "/a", ""),
        (b"/%6d", "/%6d", None),
        (b"//a", "//a", None),
        (b"http://origin/a/b", "/a/b", None),
        (b"HTTP://elsewhere.example:8080/a?b", "/a", "b"),
        (b"https://[::1]:1/a", "/a", None),
        (b"http://origin", "/", None),
        (b"http://origin?b", "/", "b"),
    ],
)
async def test_targets_of_origin_and_absolute_form(target: bytes, path: str, query: str | None) -> None:
    async with serving() as world:
        answer = await world.ask(head(target=target))
        assert answer.status == 200
        assert (world.handlers.seen[0].path, world.handlers.seen[0].query) == (path, query)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        (b"CONNECT", b"origin:80", 405),
        (b"OPTIONS", b"*", 404),
        (b"GET", b"origin:80", 400),
        (b"GET", b"a", 400),
        (b"GET", b"http://user@origin/a", 400),
        (b"GET", b"http://user:secret@origin/a", 400),
        (b"GET", b"http:///a", 400),
        (b"GET", b"ftp://origin/a", 400),
        (b"GET", b"/a#b", 400),
        (b"GET", b"http://origin/a#b", 400),
    ],
)
async def test_other_targets_are_refused(method: bytes, target: bytes, status: int) -> None:
    async with serving() as world:
        answer = await world.ask(head(target=target, method=method), method.decode())
        assert (answer.status, answer.headers["connection"], answer.headers["x-refused"]) == (status, "close", "yes")
        assert not world.handlers.seen


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
    ],
)
async def test_host(request_bytes: bytes, status: int) -> None:
    async with serving() as world:
        assert (await world.ask(request_bytes)).status == status


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\nHost: a\n\n", 200),  # a bare LF may be taken for a line's end (2.2)
        (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 200),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),  # "SHOULD ignore" an empty line (2.2): h11 does not
    ],
)
async def test_lines(request_bytes: bytes, status: int) -> None:
    async with serving() as world:
        assert (await world.ask(request_bytes)).status == status


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Content-Length: 3", b"Content-Length: 4"), 400),
        ((b"Content-Length: 3, 4"), 400),
        ((b"Content-Length: +3",), 400),
        ((b"Content-Length: 0x3",), 400),
        ((b"Transfer-Encoding: chunked",), 411),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 3"), 411),
        ((b"Transfer-Encoding: gzip",), 501),
        ((b"Content-Length: 70000",), 413),
    ],
)
async def test_lengths(lines: tuple[bytes, ...] | bytes, status: int) -> None:
    fields = (lines,) if isinstance(lines, bytes) else lines
    async with serving() as world:
        answer = await world.ask(head(*fields, method=b"POST", target=b"/body") + b"abc", "POST")
        assert answer.status == status
        assert not world.handlers.seen


async def test_http_1_0_ends_its_connection_and_knows_no_chunks() -> None:
    async with serving() as world:
        for target, body in ((b"/a", b"GET /a"), (b"/pieces", b"onetwo")):
            async with world.wire() as wire:
                await wire.send(head(b"Connection: keep-alive", target=target, version=b"1.0"))
                answer = await wire.answer()
                assert (answer.body, "transfer-encoding" in answer.headers) == (body, False)
                assert await wire.is_over()


async def test_an_unknown_length_is_chunked_for_1_1() -> None:
    async with serving() as world:
        answer = await world.ask(head(target=b"/pieces"))
        assert (answer.body, answer.headers["transfer-encoding"], answer.is_whole) == (b"onetwo", "chunked", True)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(b"".join(head(target=b"/%d" % number) for number in range(200)))
        answers = await wire.answers(*["GET"] * 200)
        assert [answer.body for answer in answers] == [b"GET /%d" % number for number in range(200)]


async def test_connection_close_by_the_client_ends_it_after_the_response() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(b"Connection: close") + head())
        assert (await wire.answer()).headers["connection"] == "close"
        assert await wire.is_over()
        assert len(world.handlers.seen) == 1


async def test_a_drain_says_connection_close_and_ends_what_is_idle() -> None:
    async with serving() as world, world.wire() as idle, world.wire() as busy:
        await idle.send(head())
        assert "connection" not in (await idle.answer()).headers
        await busy.send(head(target=b"/wait") + head())
        await world.handlers.entered.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.server.drain, 10.0)
            assert await idle.is_over()
            world.handlers.go_on.set()
            assert (await busy.answer()).headers["connection"] == "close"
            assert await busy.is_over()
        assert len(world.handlers.seen) == 2


async def test_who_half_closes_while_a_handler_works_gets_the_response() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(target=b"/wait") + head(target=b"/next"))
        await wire.stream.send_eof()
        await world.handlers.entered.wait()
        connection = next(iter(world.server.hangups.values()))
        while connection[0].deadline == math.inf:  # noqa: ASYNC110 - until the server has noticed
            await trio.sleep(0.01)
        world.handlers.go_on.set()
        assert [each.body for each in await wire.answers("GET", "GET")] == [b"GET /wait", b"GET /next"]
        assert await wire.is_over()


async def test_who_leaves_behind_pipelined_requests_is_noticed_after_a_while() -> None:
    async with serving(HttpLimits(half_closed_s=0.1)) as world:
        async with world.wire() as wire:
            await wire.send(head(target=b"/wait") + head() * 100)
            await world.handlers.entered.wait()
        await world.handlers.left.wait()


async def test_a_response_that_is_being_sent_survives_a_half_close() -> None:
    async with serving() as world, world.wire() as wire:
        wire.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await wire.send(head(target=b"/large"))
        first = await wire.stream.receive_some(1000)
        await wire.stream.send_eof()
        received = len(first)
        while data := await wire.stream.receive_some(1 << 20):
            received += len(data)
        assert received > 16 << 20


@pytest.mark.parametrize("target", [b"/lost", b"/short", b"/long"])
async def test_a_body_that_is_not_as_long_as_its_head_said_never_looks_whole(target: bytes) -> None:
    async with serving() as world, world.wire() as wire:
        with logged() as events:
            await wire.send(head(target=target))
            answers = await wire.answers("GET")
            assert not [answer for answer in answers if answer.is_whole]
            assert await wire.is_over()
        assert events == ["http.body_lost" if target == b"/lost" else "http.body_failed"]


async def test_a_cut_body_ends_in_a_reset_also_where_its_length_is_unknown() -> None:
    async with serving(HttpLimits(write_timeout_s=0.2)) as world, world.wire() as wire:
        await wire.send(head(target=b"/large"))
        await wire.stream.receive_some(1000)
        while world.server.connections:  # noqa: ASYNC110 - the server tells nobody
            await trio.sleep(0.01)
        received = 0
        with suppress(trio.BrokenResourceError):
            while data := await wire.stream.receive_some(1 << 20):
                received += len(data)
            pytest.fail("the end looked like that of a whole body")
        assert received < 16 << 20


async def test_a_handler_that_fails_is_500_and_the_connection_goes_on() -> None:
    async with serving() as world, world.wire() as wire:
        with logged() as events:
            await wire.send(head(target=b"/fails") + head())
            assert [answer.status for answer in await wire.answers("GET", "GET")] == [500, 200]
        assert events == ["http.handler_failed"]


@pytest.mark.parametrize("beginning", [b"G", head()[:-2]])
async def test_a_head_that_is_cut_short_is_no_request(beginning: bytes) -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(beginning)
        await wire.stream.send_eof()
        assert await wire.is_over()
        assert not world.handlers.seen


async def test_a_body_that_is_cut_short_reaches_no_handler() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(b"Content-Length: 10", target=b"/body", method=b"POST") + b"abc")
        await wire.stream.send_eof()
        assert await wire.is_over()


async def test_lines_of_one_name_are_one_value_and_cookies_stay_apart() -> None:
    async with serving() as world:
        await world.ask(head(b"Accept: a", b"Cookie: one=1", b"Accept: b", b"Cookie: two=2; three=3"))
        headers = world.handlers.seen[0].headers
        assert (headers["accept"], headers["cookie"]) == ("a, b", "one=1; two=2; three=3")


@pytest.mark.parametrize(("network", "peer"), [("127.0.0.1/32", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1")])
async def test_only_a_trusted_proxy_names_its_client(network: str, peer: str) -> None:
    async with serving(HttpLimits(proxies=(ip_network(network),))) as world:
        await world.ask(head(b"X-Forwarded-For: 198.51.100.7"))
        assert world.handlers.seen[0].peer == peer
