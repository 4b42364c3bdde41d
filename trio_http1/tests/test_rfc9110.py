"""RFC 9110: what a server does by itself. Conditions and ranges are the origin's: `tests/unit/servers/origin`."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from trio_http1 import HttpLimits

from .wire import head, serving

EXPECT = b"Expect: 100-continue"


async def test_100_continue_comes_once_and_only_when_the_body_is_wanted() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(EXPECT, b"Content-Length: 3", target=b"/body", method=b"POST"))
        assert await wire.stream.receive_some(1000) == b"HTTP/1.1 100 \r\n\r\n"
        await wire.send(b"abc")
        answer = await wire.answer("POST")
        assert (answer.status, answer.body, answer.interim) == (200, b"abc", [])


async def test_a_body_that_came_already_needs_no_100() -> None:
    async with serving() as world:
        answer = await world.ask(head(EXPECT, b"Content-Length: 3", target=b"/body", method=b"POST") + b"abc", "POST")
        assert (answer.status, answer.body) == (200, b"abc")
        assert answer.interim in ([], [100])


async def test_an_unwanted_body_is_not_asked_for_and_the_connection_ends() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(EXPECT, b"Content-Length: 3", method=b"POST"))
        answer = await wire.answer("POST")
        assert (answer.status, answer.interim, answer.headers["connection"]) == (200, [], "close")
        assert await wire.is_over()


async def test_an_unwanted_body_that_came_whole_costs_no_connection() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(b"Content-Length: 3", method=b"POST") + b"abc" + head())
        assert [answer.status for answer in await wire.answers("POST", "GET")] == [200, 200]


@pytest.mark.parametrize("lines", [(EXPECT,), (EXPECT, b"Content-Length: 0")])
async def test_an_expectation_without_a_body_is_one_response(lines: tuple[bytes, ...]) -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(*lines) + head(target=b"/next"))
        answers = await wire.answers("GET", "GET")
        assert [(answer.status, answer.interim, answer.body) for answer in answers] == [
            (200, [], b"GET /"),
            (200, [], b"GET /next"),
        ]


async def test_an_expectation_in_pieces_is_one() -> None:
    async with serving() as world, world.wire() as wire:
        for byte in head(EXPECT, b"Content-Length: 3", target=b"/body", method=b"POST"):
            await wire.send(bytes([byte]))
        assert await wire.stream.receive_some(1000) == b"HTTP/1.1 100 \r\n\r\n"
        await wire.send(b"abc")
        assert (await wire.answer("POST")).body == b"abc"


async def test_unknown_expectations_are_417_and_those_of_1_0_are_ignored() -> None:
    async with serving() as world:
        assert (await world.ask(head(b"Expect: the-best"))).status == 417
        assert (await world.ask(head(b"Expect: 100-CONTINUE"))).status == 200
        answer = await world.ask(head(b"Expect: the-best", version=b"1.0"))
        assert (answer.status, answer.interim) == (200, [])
        body = head(EXPECT, b"Content-Length: 3", target=b"/body", method=b"POST", version=b"1.0") + b"abc"
        answer = await world.ask(body, "POST")
        assert (answer.status, answer.interim, answer.body) == (200, [], b"abc")


@pytest.mark.parametrize("target", [b"/a", b"/pieces"])
async def test_head_is_get_without_the_body(target: bytes) -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(target=target))
        got = await wire.answer()
        await wire.send(head(target=target, method=b"HEAD") + head())
        asked, after = await wire.answers("HEAD", "GET")
        assert (asked.status, asked.body, after.status) == (200, b"", 200)
        varying = {"date", "content-length"} if target == b"/a" else {"date"}  # this handler's text names the method
        assert {name: value for name, value in asked.headers.items() if name not in varying} == {
            name: value for name, value in got.headers.items() if name not in varying
        }


async def test_a_304_has_neither_length_nor_body_and_the_connection_goes_on() -> None:
    async with serving() as world, world.wire() as wire:
        await wire.send(head(target=b"/304") + head())
        first, second = await wire.answers("GET", "GET")
        assert (first.status, first.body, first.headers["etag"]) == (304, b"", '"a"')
        assert not {"content-length", "transfer-encoding", "content-type"} & {*first.headers}
        assert second.status == 200


@pytest.mark.parametrize("request_bytes", [head(), head(b"Expect: the-best"), head(target=b"/fails")])
async def test_every_response_has_a_date(request_bytes: bytes) -> None:
    async with serving(HttpLimits()) as world:
        assert parsedate_to_datetime((await world.ask(request_bytes)).headers["date"]).tzinfo is not None


async def test_methods_are_case_sensitive() -> None:
    async with serving() as world:
        await world.ask(head(method=b"get"), "get")
        assert world.handlers.seen[0].method == "get"
