"""What each kind of answer means: a medium, a failure for good, or a reason to come back."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from guarded_fetch import FetchTimeouts, parse_remote_url
from guarded_fetch.errors import FetchCode, FetchRejected, FetchUnavailable, ServerError
from guarded_fetch.exchange import Exchange
from guarded_fetch.fetcher import retry_after_s

from .strangers import fetcher, response, says, stranger


async def test_a_plain_file_arrives_whole(fd: int) -> None:
    body = os.urandom(90_000)
    with trio.fail_after(20):
        async with stranger(says(response(body, headers=['ETag: "v1"']))) as server:
            url = parse_remote_url(server.url("/a.png?x=1#fragment"))
            fetched = await fetcher().fetch(url, fd)
    assert (fetched.size_bytes, fetched.final_url) == (len(body), url)
    assert fetched.validators is not None
    assert fetched.validators.etag == '"v1"'
    assert os.pread(fd, 100_000, 0) == body


async def test_the_request_carries_nothing_of_ours(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response())) as server:
            await fetcher().fetch(parse_remote_url(server.url("/a.png?x=1#fragment")), fd)
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /a.png?x=1 HTTP/1.1"
    headers = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in lines[1:] if line}
    assert headers.keys() == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert headers["host"] == server.authority
    assert headers["accept-encoding"] == "identity"
    assert headers["connection"] == "close"


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 400, 401, 403, 404, 410, 451, 501, 999])
async def test_statuses_that_are_final(status: int, fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response(b"", status=status))) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert caught.value.code is FetchCode.REMOTE_STATUS
    assert os.fstat(fd).st_size == 0


@pytest.mark.parametrize(
    ("status", "header", "expected_s"),
    [
        (503, "", None),
        (429, "Retry-After: 120", 120.0),
        (503, "Retry-After: 0", 1.0),
        (429, "Retry-After: 999999999999", 3600.0),
        (429, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        (429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", 1.0),
        (500, "Retry-After: soon", None),
        (500, "Retry-After: ²", None),
        (502, "Retry-After: -5", None),
        (408, "Retry-After: 1e9", None),
    ],
)
async def test_statuses_to_come_back_for(status: int, header: str, expected_s: float | None, fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response(b"", status=status, headers=[header] if header else []))) as server:
            with pytest.raises(FetchUnavailable) as caught:
                await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert isinstance(caught.value, ServerError)
    assert caught.value.retry_after_s == expected_s


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [+-]?\w+")))
def test_any_retry_after_is_bounded(text: str) -> None:
    seconds = retry_after_s(text)
    assert seconds is None or 1.0 <= seconds <= 3600.0


async def test_an_empty_file_has_its_own_code(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response(b""))) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert caught.value.code is FetchCode.EMPTY


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"220 mail.example ESMTP\r\n",
        b"-ERR unknown command 'GET'\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"<html>HTTP/0.9</html>",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: first\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 60_000,
        b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 20_000,
    ],
)
async def test_what_is_not_http_is_rejected_at_once(garbage: bytes, fd: int) -> None:
    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        await stream.send_all(garbage)
        await trio.sleep_forever()  # as servers of other protocols do: they wait for us to go on

    with trio.fail_after(20):
        async with stranger(behave) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert caught.value.code is FetchCode.REMOTE_STATUS
    assert len(caught.value.detail) < 300  # strangers do not fill our logs
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("beginning", [b"", b"HT", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_a_server_that_goes_before_it_has_answered_may_be_back(beginning: bytes, fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(beginning)) as server:
            with pytest.raises(FetchUnavailable):
                await fetcher().fetch(parse_remote_url(server.url()), fd)


async def test_a_few_interim_responses_are_passed_over(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3, response(b"x"))) as server:
            fetched = await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert fetched.size_bytes == 1


async def test_a_flood_of_interim_responses_is_rejected(fd: int) -> None:
    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        while True:
            await stream.send_all(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)

    with trio.fail_after(20):
        async with stranger(behave) as server:
            with pytest.raises(FetchRejected, match="interim"):
                await fetcher().fetch(parse_remote_url(server.url()), fd)


async def test_a_server_that_refuses_to_listen_can_still_answer(fd: int) -> None:
    """A 404 at the door, sent before the request was read."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def at_the_door(stream: trio.SocketStream) -> None:
        await stream.send_all(response(b"", status=404))
        await stream.send_eof()
        await stream.receive_some()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, at_the_door, [listener])
            url = parse_remote_url(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/")
            with pytest.raises(FetchRejected, match="404"):
                await fetcher().fetch(url, fd)
            nursery.cancel_scope.cancel()


async def test_a_request_that_is_not_taken_is_not_called_a_missing_answer(autojump_clock: MockClock) -> None:
    ours, _theirs = trio.testing.lockstep_stream_pair()  # takes nothing before the other end reads
    exchange = Exchange(ours, FetchTimeouts(), 1 << 20)
    with pytest.raises(FetchUnavailable, match="the request was not taken within 10 s"):
        await exchange.ask(parse_remote_url("http://stranger.example/a.png"), "tests")
