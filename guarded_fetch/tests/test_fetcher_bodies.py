"""Bodies: bounded in size, time and framing, and never half taken for whole."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable

import pytest
import trio
import trio.testing

from guarded_fetch import FetchTimeouts, parse_remote_url
from guarded_fetch.errors import FetchCode, FetchRejected, FetchUnavailable

from .strangers import Behaviour, Stranger, fetcher, response, says, stranger

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE_DELIMITED = b"HTTP/1.1 200 OK\r\n\r\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """One chunk."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


async def rejected(behave: Behaviour, fd: int, *, max_bytes: int = 100_000) -> FetchRejected:
    """The rejection that a server brings about."""
    with trio.fail_after(20):
        async with stranger(behave) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher(max_bytes=max_bytes).fetch(parse_remote_url(server.url()), fd)
    return caught.value


async def unavailable(
    behave: Behaviour, fd: int, *, timeouts: FetchTimeouts | None = None, timeout_s: float = 8.0
) -> str:
    """What is said of a server that is to be asked again later."""
    with trio.fail_after(20):
        async with stranger(behave) as server:
            with pytest.raises(FetchUnavailable) as caught:
                await fetcher(timeouts=timeouts, timeout_s=timeout_s).fetch(parse_remote_url(server.url()), fd)
    return caught.value.detail


def endless(head: bytes, piece: Callable[[], bytes]) -> Behaviour:
    """Sends for as long as somebody takes it."""

    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        await stream.send_all(head)
        while True:
            await stream.send_all(piece())

    return behave


def dripping(head: bytes, piece: bytes, every_s: float) -> Behaviour:
    """Sends a little now and then."""

    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        await stream.send_all(head)
        while True:
            await stream.send_all(piece)
            await trio.sleep(every_s)

    return behave


@pytest.mark.parametrize("head", [CLOSE_DELIMITED, b"HTTP/1.0 200 OK\r\n\r\n"])
async def test_a_body_that_ends_with_the_connection(head: bytes, fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(head, b"abc", b"def")) as server:
            fetched = await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert (fetched.size_bytes, os.pread(fd, 10, 0)) == (6, b"abcdef")


@pytest.mark.parametrize("size", [1, 1000, 99_999])
async def test_a_chunked_body(size: int, fd: int) -> None:
    body = os.urandom(size)
    parts = [chunk(body[at : at + 700], b";x=1") for at in range(0, size, 700)]
    with trio.fail_after(20):
        async with stranger(says(CHUNKED, *parts, b"0\r\nTrailer: x\r\n\r\n")) as server:
            fetched = await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert (fetched.size_bytes, os.pread(fd, 100_000, 0)) == (size, body)


@pytest.mark.parametrize("end", [response(b"abc"), CHUNKED + chunk(b"abc") + b"0\r\n\r\n"])
async def test_the_end_of_the_body_ends_the_fetch_though_the_connection_stays(end: bytes, fd: int) -> None:
    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        await stream.send_all(end)
        assert not await stream.receive_some()  # the fetcher is the one that goes

    with trio.fail_after(20):
        async with stranger(behave) as server:
            assert (await fetcher().fetch(parse_remote_url(server.url()), fd)).size_bytes == 3


async def test_bytes_after_the_end_are_nobodys(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response(b"abc") + response(b"smuggled"))) as server:
            await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert os.pread(fd, 100, 0) == b"abc"


@pytest.mark.parametrize(
    "truncated",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 99,
        CHUNKED,
        CHUNKED + chunk(b"abc"),
        CHUNKED + b"64\r\nabc",
        CHUNKED + chunk(b"abc") + b"0\r\n",
        CHUNKED + chunk(b"abc") + b"zz\r\n",
        CHUNKED + b"3\r\nabcdef",
        CHUNKED + b"-1\r\nabc\r\n",
        CHUNKED + b"f" * 21 + b"\r\nabc",
    ],
)
async def test_a_broken_body_is_never_taken_as_whole(truncated: bytes, fd: int) -> None:
    assert "broke off" in await unavailable(says(truncated), fd)


async def test_a_reset_is_never_taken_as_the_end(fd: int) -> None:
    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        assert isinstance(stream, trio.SocketStream)
        await stream.send_all(CLOSE_DELIMITED + b"abc")
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert "broke" in await unavailable(behave, fd)


async def test_too_large_by_its_own_word(fd: int) -> None:
    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n")
        assert not await stream.receive_some()  # nothing of the body was waited for

    assert (await rejected(behave, fd)).code is FetchCode.TOO_LARGE


@pytest.mark.parametrize("piece", [b"x" * 1000, chunk(b"x" * 1000)])
async def test_too_large_without_a_word(piece: bytes, fd: int) -> None:
    head = CHUNKED if piece.startswith(b"3e8") else CLOSE_DELIMITED
    assert (await rejected(endless(head, lambda: piece), fd)).code is FetchCode.TOO_LARGE
    assert os.fstat(fd).st_size <= 100_000


async def test_exactly_the_limit_is_allowed(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response(b"x" * 100_000))) as server:
            assert (await fetcher().fetch(parse_remote_url(server.url()), fd)).size_bytes == 100_000


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "x-gzip", "identity, gzip"])
async def test_compression_nobody_asked_for_is_not_undone(encoding: str, fd: int) -> None:
    bomb = gzip.compress(b"\0" * 1_000_000)
    rejection = await rejected(says(response(bomb, headers=[f"Content-Encoding: {encoding}"])), fd)
    assert rejection.code is FetchCode.REMOTE_STATUS
    assert os.fstat(fd).st_size == 0


async def test_a_gzip_file_is_a_file(fd: int) -> None:
    """Without the header it is content like any other, kept as it is: what it is, others judge."""
    body = gzip.compress(b"\0" * 10_000)
    with trio.fail_after(20):
        async with stranger(says(response(body, headers=["Content-Encoding: identity"]))) as server:
            await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert os.pread(fd, 100_000, 0) == body


async def test_a_flood_of_tiny_chunks_is_rejected(fd: int) -> None:
    rejection = await rejected(endless(CHUNKED, lambda: b"1\r\nx\r\n" * 1000), fd)
    assert rejection.code is FetchCode.REMOTE_STATUS


async def test_chunk_extensions_count_against_the_size(fd: int) -> None:
    rejection = await rejected(endless(CHUNKED, lambda: chunk(b"x", b";" + b"e" * 15_000)), fd)
    assert rejection.code is FetchCode.TOO_LARGE


async def test_an_endless_chunk_header_is_cut_off(fd: int) -> None:
    assert "too long" in await unavailable(endless(CHUNKED + b"1;", lambda: b"e" * 1000), fd)


async def test_endless_trailers_are_cut_off(fd: int) -> None:
    assert "too long" in await unavailable(endless(CHUNKED + chunk(b"x") + b"0\r\n", lambda: b"a: b\r\n" * 100), fd)


@pytest.mark.parametrize("head", [CHUNKED, CLOSE_DELIMITED, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
async def test_a_drip_below_the_minimum_rate_is_cut_off(head: bytes, fd: int) -> None:
    piece = chunk(b"x") if head is CHUNKED else b"x"
    timeouts = FetchTimeouts(window_s=0.2, min_window_bytes=1000)
    assert "too slowly" in await unavailable(dripping(head, piece, 0.02), fd, timeouts=timeouts)


async def test_a_silent_server_is_left(fd: int) -> None:
    silent = dripping(CLOSE_DELIMITED, b"x", 60.0)
    assert "no bytes" in await unavailable(silent, fd, timeouts=FetchTimeouts(read_s=0.1))


@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"", b""), (b"HTTP/1.1 200 OK\r\n", b""), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (b"HTTP/1.1 200 ", b"O")],
)
async def test_headers_have_one_deadline_however_they_drip(head: bytes, piece: bytes, fd: int) -> None:
    assert "no answer" in await unavailable(dripping(head, piece, 0.02), fd, timeouts=FetchTimeouts(head_s=0.2))


async def test_one_deadline_holds_over_everything(fd: int) -> None:
    assert "took longer" in await unavailable(dripping(CLOSE_DELIMITED, b"x", 0.02), fd, timeout_s=0.3)


async def test_a_full_disk_is_told_as_it_is(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with trio.fail_after(20):
        async with stranger(says(response(b"abc"))) as server:
            monkeypatch.setattr(os, "pwrite", full)
            with pytest.raises(OSError, match="No space left"):
                await fetcher().fetch(parse_remote_url(server.url()), fd)


async def test_short_writes_are_completed(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda target, data, offset: pwrite(target, data[:100], offset))
    body = os.urandom(5000)
    with trio.fail_after(20):
        async with stranger(says(response(body))) as server:
            await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert os.pread(fd, 10_000, 0) == body


async def _gone(server: Stranger) -> None:
    while server.open_connections:
        await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX:", CHUNKED + b"5\r\nab", CLOSE_DELIMITED + b"x"])
async def test_cancelled_fetches_leave_no_connection_behind(head: bytes, fd: int) -> None:
    started = 0
    all_started = trio.Event()

    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        nonlocal started
        await stream.send_all(head)
        started += 1
        if started == 12:
            all_started.set()
        await stream.receive_some()  # returns when the fetcher goes

    descriptors = len(os.listdir("/proc/self/fd"))
    with trio.fail_after(20):
        async with stranger(behave) as server:
            one = fetcher()
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(one.fetch, parse_remote_url(server.url()), fd)
                await all_started.wait()
                nursery.cancel_scope.cancel()
            await _gone(server)
    assert len(os.listdir("/proc/self/fd")) == descriptors
