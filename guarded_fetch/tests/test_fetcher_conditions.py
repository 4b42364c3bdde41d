"""Revalidation, the bounds per host at each hop, and how the fetcher names itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from guarded_fetch import (
    AddressGuard,
    Gone,
    RemoteUrl,
    ServerError,
    Validators,
    parse_remote_url,
    validators_from,
)
from guarded_fetch.errors import FetchCode, FetchRejected
from guarded_fetch.fetcher import source_of, validators_of

from .strangers import Names, fetcher, redirect, response, says, stranger

DATE = "Wed, 01 Jul 2026 10:00:00 GMT"
URL = parse_remote_url("https://remote.example/a.png")


async def test_what_has_not_changed_is_not_fetched(fd: int) -> None:
    async with stranger(says(response(b"", status=304))) as server:
        url = parse_remote_url(server.url())
        known = Validators(source_of(url), 'W/"v1"', DATE)
        with trio.fail_after(20):
            assert await fetcher().fetch_if_changed(url, fd, known) is None
    assert b'\r\nIf-None-Match: W/"v1"\r\n' in server.requests[0]
    assert f"\r\nIf-Modified-Since: {DATE}\r\n".encode() in server.requests[0]
    assert os.fstat(fd).st_size == 0


async def test_what_has_changed_is_fetched(fd: int) -> None:
    async with stranger(says(response(b"new", headers=['ETag: "v2"', f"Last-Modified: {DATE}"]))) as server:
        url = parse_remote_url(server.url())
        with trio.fail_after(20):
            fetched = await fetcher().fetch_if_changed(url, fd, Validators(source_of(url), '"v1"'))
    assert fetched is not None
    assert fetched.validators == Validators(source_of(url), '"v2"', DATE)
    assert os.pread(fd, 10, 0) == b"new"


async def test_validators_go_only_where_they_came_from(fd: int) -> None:
    """The same entity tag names another file elsewhere; a 304 from there means nothing."""
    async with stranger(says(response(b"", status=304))) as target, stranger(says(redirect(target.url()))) as server:
        url = parse_remote_url(server.url())
        with trio.fail_after(20), pytest.raises(FetchRejected) as caught:
            await fetcher().fetch_if_changed(url, fd, Validators(source_of(url), '"v1"'))
        assert caught.value.code is FetchCode.REMOTE_STATUS
        assert b"If-None-Match" in server.requests[0]
        assert b"If-None-Match" not in target.requests[0]
        known = Validators(source_of(parse_remote_url(target.url())), '"v1"')
        with trio.fail_after(20):
            assert await fetcher().fetch_if_changed(url, fd, known) is None
        assert b"If-None-Match" not in server.requests[1]


@given(etag=st.text(max_size=300), date=st.text(max_size=100))
def test_strangers_validators_are_kept_only_if_they_are_well_formed(etag: str, date: str) -> None:
    kept = validators_of(URL, etag, date)
    if kept is not None:
        metadata = kept.to_metadata()
        assert validators_from(metadata) == kept
        assert all(text.isascii() and text.isprintable() and " " not in text for text in metadata.values())
        for _, value in kept.conditions(URL):
            assert value.isascii()
            assert value.isprintable()


@pytest.mark.parametrize("etag", ['""', '"a"', 'W/"a"', '"' + "x" * 126 + '"', '"a\'b%20"'])
def test_entity_tags_as_the_standard_has_them(etag: str) -> None:
    kept = validators_of(URL, etag, "")
    assert kept is not None
    assert validators_from(kept.to_metadata()) == kept


@pytest.mark.parametrize(
    "etag", ["", "a", "'a'", 'w/"a"', '"a', '"a"b"', '"a b"', '"ä"', '"a"\n', '"' + "x" * 200 + '"']
)
def test_other_entity_tags_are_left(etag: str) -> None:
    assert validators_of(URL, etag, "") is None
    metadata = {"remote-source": source_of(URL), "remote-etag": etag}
    assert validators_from(metadata) is None


@pytest.mark.parametrize("status", [404, 410, 451])
async def test_what_is_gone_is_told_apart(status: int, fd: int) -> None:
    async with stranger(says(response(b"", status=status))) as server:
        with trio.fail_after(20), pytest.raises(Gone) as caught:
            await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert caught.value.code is FetchCode.REMOTE_STATUS


@pytest.mark.parametrize(
    ("status", "header", "of_host", "asked_s"),
    [
        (429, "Retry-After: 30", True, 30.0),
        (503, "Retry-After: 0", True, 1.0),
        (503, "Retry-After: 86400", True, 3600.0),
        (503, "", True, None),
        (502, "Retry-After: later", True, None),
        (500, "Retry-After: 30", False, 30.0),
        (408, "", False, None),
    ],
)
async def test_whose_trouble_a_status_tells_of(
    status: int, header: str, of_host: bool, asked_s: float | None, fd: int
) -> None:
    async with stranger(says(response(b"", status=status, headers=[header] if header else []))) as server:
        with trio.fail_after(20), pytest.raises(ServerError) as caught:
            await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert (caught.value.of_host, caught.value.retry_after_s) == (of_host, asked_s)


class Doorkeeper:
    """Notes who is admitted; turns away one port."""

    def __init__(self, closed_port: int = 0) -> None:
        self.entered: list[int] = []
        self.redirected: list[bool] = []
        self.inside = 0
        self._closed_port = closed_port

    @asynccontextmanager
    async def __call__(self, url: RemoteUrl, deadline: float, *, redirected: bool) -> AsyncIterator[None]:
        assert deadline <= trio.current_time() + 10.0
        if url.port == self._closed_port:
            raise PermissionError("later")
        self.entered.append(url.port)
        self.redirected.append(redirected)
        self.inside += 1
        assert self.inside == 1
        try:
            yield
        finally:
            self.inside -= 1


async def test_each_hop_is_admitted_for_itself(fd: int) -> None:
    async with stranger(says(response(b"there"))) as target, stranger(says(redirect(target.url()))) as server:
        url = parse_remote_url(server.url())
        doorkeeper = Doorkeeper()
        with trio.fail_after(20):
            await fetcher(admitted=doorkeeper).fetch(url, fd)
        assert doorkeeper.entered == [server.port, target.port]
        assert doorkeeper.redirected == [False, True]
        with trio.fail_after(20), pytest.raises(PermissionError, match="later"):
            await fetcher(admitted=Doorkeeper(target.port)).fetch(url, fd)
        assert (server.connections, target.connections) == (2, 1)


async def test_what_is_refused_anyway_waits_for_no_turn(fd: int) -> None:
    doorkeeper = Doorkeeper()
    for text in ("http://169.254.169.254/", "http://[::1]/", "http://public.example:22/"):
        names = Names({"public.example": ["93.184.216.34"]})
        with trio.fail_after(20), pytest.raises(FetchRejected) as caught:
            await fetcher(admitted=doorkeeper, guard=AddressGuard(), resolve=names).fetch(parse_remote_url(text), fd)
        assert caught.value.code is FetchCode.REMOTE_REFUSED
    assert doorkeeper.entered == [22]  # a name has to be asked for


async def test_each_url_is_checked_before_it_is_asked_for(fd: int) -> None:
    checked: list[RemoteUrl] = []

    def check(url: RemoteUrl) -> None:
        checked.append(url)
        if url.target == "/blocked":
            raise PermissionError("blocked")

    async with stranger(says(redirect("/blocked"))) as server:
        url, blocked = parse_remote_url(server.url("/a")), parse_remote_url(server.url("/blocked"))
        with trio.fail_after(20):
            with pytest.raises(PermissionError, match="blocked"):
                await fetcher(check=check).fetch(url, fd)
            assert (checked, server.connections) == ([url, blocked], 1)
            inside = parse_remote_url("http://127.0.0.1:9/blocked")
            with pytest.raises(PermissionError, match="blocked"):
                await fetcher(check=check, guard=AddressGuard()).fetch(inside, fd)


async def test_the_fetcher_asks_for_what_its_caller_accepts(fd: int) -> None:
    async with stranger(says(response())) as server:
        with trio.fail_after(20):
            await fetcher().fetch(parse_remote_url(server.url()), fd)
            await fetcher(accept="image/*, */*;q=0.1").fetch(parse_remote_url(server.url()), fd)
    assert b"\r\nAccept: */*\r\n" in server.requests[0]
    assert b"\r\nAccept: image/*, */*;q=0.1\r\n" in server.requests[1]


async def test_the_fetcher_says_who_it_is(fd: int) -> None:
    async with stranger(says(response())) as server:
        with trio.fail_after(20):
            await fetcher(user_agent="my-service/1.0 (+https://media.example)").fetch(
                parse_remote_url(server.url()), fd
            )
    assert b"\r\nUser-Agent: my-service/1.0 (+https://media.example)\r\n" in server.requests[0]
