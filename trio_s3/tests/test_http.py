"""Requests on Trio keep their connections, end in time, and are repeated once."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from trio_s3 import Http, PartRequest, Presigner, Refused, Relay, Requests, S3Error, SigningCredentials

from .pairs import connected

BODY = os.urandom(300_000)
MIB = 1 << 20


# -- a store that says what it is told to


class Scripted:
    """Answers requests with ``script``, in this order; b"" ends the connection, None says nothing."""

    def __init__(self, *script: bytes | None) -> None:
        self.script = list(script)
        self.connections = 0
        self.requests: list[bytes] = []
        self.closed = trio.Event()
        self.ends = trio.Semaphore(0)  # of connections
        self.url = ""
        self.clients: list[Http] = []

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        async with stream:
            try:
                while request := await stream.receive_some(65_536):
                    self.requests.append(bytes(request))
                    answer = self.script.pop(0)
                    if answer is None:
                        continue
                    if answer:
                        await stream.send_all(answer)
                    if not answer or b"Connection: close" in answer:
                        return
            except trio.BrokenResourceError:
                pass
            self.closed.set()
            self.ends.release()


@asynccontextmanager
async def scripted(*script: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    store = Scripted(*script)
    listeners: Any = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    store.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    if tls:
        listeners = [trio.SSLListener(listeners[0], tls)]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, store.serve, listeners)
            yield store
            for client in store.clients:
                client.close()
            nursery.cancel_scope.cancel()


def found(body: bytes, *lines: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    fields = (b'ETag: "e"', b"Last-Modified: Thu, 29 Feb 2024 12:00:00 GMT")
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join((b"HTTP/1.1 " + status, *fields, size, *lines, b"", body))


def anonymous(store: Scripted, tls: ssl.SSLContext | None = None) -> Requests:
    http = Http(store.url, connect_timeout_s=1.0, timeout_s=1.0, tls=tls)
    store.clients.append(http)
    return Requests(http, Presigner(store.url, "bucket", "us-east-1", SigningCredentials("key", "secret")))


async def data_of(get: Requests) -> bytes:
    return bytes((await get.get(PartRequest("a", None, None, MIB))).data)


MISSING = b"HTTP/1.1 404 No\r\nContent-Length: 22\r\n\r\n<Code>NoSuchKey</Code>"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


async def test_one_connection_serves_one_request_after_the_other() -> None:
    async with scripted(found(b"one"), MISSING, CHUNKED, found(b"x" * 500_000), found(b"")) as store:
        get = anonymous(store)
        assert await data_of(get) == b"one"
        with pytest.raises(Refused, match="NoSuchKey"):
            await data_of(get)
        with pytest.raises(S3Error, match="length"):
            await data_of(get)  # chunked
        assert await data_of(get) == b"x" * 500_000
        assert await data_of(get) == b""
        assert store.connections == 2
        assert all(request.startswith(b"GET /bucket/a?X-Amz-Algorithm=") for request in store.requests)


async def test_a_response_that_is_not_the_stores_is_not_taken() -> None:
    """One from something in between: it has no date."""
    async with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", found(b"two")) as store:
        get = anonymous(store)
        with pytest.raises(S3Error, match="date"):
            await data_of(get)
        assert await data_of(get) == b"two"


async def test_what_follows_a_response_is_never_part_of_the_next() -> None:
    confused = found(b"one") + found(b"of another request")
    async with scripted(confused, confused, found(b"two")) as store:
        get = anonymous(store)
        with pytest.raises(S3Error, match="after the response"):
            await data_of(get)
        assert await data_of(get) == b"two"
        assert store.connections == 3


async def test_a_kept_connection_that_was_closed_costs_nothing() -> None:
    async with scripted(found(b"one", b"Connection: close"), found(b"two"), b"", found(b"three")) as store:
        get = anonymous(store)
        assert await data_of(get) == b"one"
        assert await data_of(get) == b"two"
        assert await data_of(get) == b"three"  # the store closed the kept one when it was asked
        assert store.connections == 3


async def test_connections_that_are_idle_for_long_are_closed_although_another_is_in_use(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with scripted(*[found(b"one")] * 5) as store:
        get = anonymous(store)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(data_of, get)
        for _ in range(2):
            mock_clock.jump(8)
            assert await data_of(get) == b"one"
        assert store.connections == 3
        for _ in range(2):
            await store.ends.acquire()


async def test_a_new_connection_that_is_closed_is_no_answer() -> None:
    async with scripted(b"", b"") as store:
        with pytest.raises(S3Error):
            await data_of(anonymous(store))
        assert store.connections == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"])
async def test_a_failure_that_may_pass_is_asked_for_again(answer: bytes) -> None:
    async with scripted(answer, found(b"two")) as store:
        assert await data_of(anonymous(store)) == b"two"


@pytest.mark.parametrize(
    "answer", [found(b"abc", b"Connection: close", length=10), b"HTTP/1.1 200 O", b"nonsense\r\n\r\n"]
)
async def test_a_response_that_breaks_off_is_asked_for_again(answer: bytes) -> None:
    ending = answer if b"Connection: close" in answer else answer + b"Connection: close"
    async with scripted(found(b"one"), ending, found(b"three")) as store:
        get = anonymous(store)
        await data_of(get)
        assert await data_of(get) == b"three"
        assert store.connections == 2


@pytest.mark.parametrize("answer", [None, found(b"abc", length=10)])
async def test_silence_ends_after_the_timeout_and_names_no_signature(answer: bytes | None) -> None:
    async with scripted(answer, found(b"next")) as store:
        get = anonymous(store)
        with pytest.raises(S3Error) as caught:
            await data_of(get)
        assert "Signature" not in str(caught.value)
        assert await data_of(get) == b"next"
        assert store.connections == 2


async def test_a_body_that_keeps_coming_may_take_longer_than_the_timeout() -> None:
    class Slow(Scripted):
        async def serve(self, stream: trio.abc.Stream) -> None:
            await stream.receive_some(65_536)
            await stream.send_all(found(b"", length=6))
            for _ in range(6):
                await trio.sleep(0.3)
                await stream.send_all(b"x")

    store = Slow()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    store.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, store.serve, [listener])
            get = anonymous(store)
            assert await data_of(get) == b"xxxxxx"
            get._http.close()
            nursery.cancel_scope.cancel()


async def relayed(get: Requests) -> tuple[bytes, bool]:
    """What a client receives of bytes 10 to 299,999, and whether the store gave all of it."""
    received, is_whole = bytearray(), True
    async with connected() as (stream, client):

        async def receive() -> None:
            async for data in client:
                received.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            with closing(Relay(stream)) as relay:
                try:
                    await get.get(PartRequest("a", (10, len(BODY) - 1), "e", MIB, relay))
                except S3Error:
                    is_whole = False
                assert await relay.finish(10.0)
            await stream.send_eof()
    assert relay.sent == len(received)
    return bytes(received), is_whole


def found_part(content_range: str, body: bytes, *lines: bytes) -> bytes:
    field = f"Content-Range: bytes {content_range}".encode()
    return found(body, field, *lines, status=b"206 Partial Content", length=len(BODY) - 10)


async def test_a_relayed_body_keeps_the_connection() -> None:
    answer = found_part("10-299999/300000", BODY[10:])
    async with scripted(answer, answer) as store:
        get = anonymous(store)
        assert [await relayed(get) for _ in range(2)] == [(BODY[10:], True)] * 2
        assert store.connections == 1


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (found_part("10-299999/300000", BODY[10:1000], b"Connection: close"), BODY[10:1000]),
        (found_part("11-300000/300001", BODY[10:], b"Connection: close"), b""),
        (found(BODY[10:], b"Connection: close"), b""),
    ],
)
async def test_a_body_is_relayed_as_far_as_it_is_the_right_one(answer: bytes, received: bytes) -> None:
    async with scripted(answer) as store:
        assert await relayed(anonymous(store)) == (received, False)


@pytest.mark.parametrize(
    ("asked", "content_range", "body"),
    [
        ((0, 9), "1-10/100", b"x" * 10),
        ((0, 9), "0-9/100", b"x" * 9),
        ((90, None), "91-99/100", b"x" * 9),
        ((None, 10), "89-98/100", b"x" * 10),
        ((10, 19), "", b"x" * 100),
        (None, "0-9/100", b"x" * 10),
    ],
)
@pytest.mark.parametrize("in_file", [True, False])
async def test_other_bytes_than_those_asked_for_are_not_taken(
    asked: Any, content_range: str, body: bytes, in_file: bool, tmp_path: Path
) -> None:
    lines = (f"Content-Range: bytes {content_range}".encode(),) if content_range else ()
    async with scripted(found(body, *lines), found(b"next")) as store:
        get = anonymous(store)
        with (tmp_path / "file").open("w+b") as file:
            target = (file.fileno(), 0) if in_file else None
            with pytest.raises(S3Error, match="were sent for"):
                await get.get(PartRequest("a", asked, None, MIB, file=target))
            assert file.read() == b""
        assert await data_of(get) == b"next"


async def test_a_cancel_closes_the_connection_and_frees_its_place() -> None:
    async with scripted(*[None] * 4, *[found(b"one")] * 4) as store:
        get = anonymous(store)
        async with trio.open_nursery() as nursery:
            for _ in range(4):  # as many as there may be
                nursery.start_soon(data_of, get)
            while len(store.requests) < 4:  # noqa: ASYNC110 - the store tells nobody
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await store.closed.wait()
        for _ in range(4):
            assert await data_of(get) == b"one"


async def test_https() -> None:
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    async with scripted(found(b"one"), found(b"x" * 200_000), tls=server) as store:
        with authority.cert_pem.tempfile() as bundle:
            get = anonymous(store, ssl.create_default_context(cafile=bundle))
        assert await data_of(get) == b"one"
        assert await data_of(get) == b"x" * 200_000
        assert store.connections == 1
    async with scripted(tls=server) as store:
        with pytest.raises(S3Error):
            await data_of(anonymous(store, ssl.create_default_context()))  # an authority that nobody knows


async def test_after_its_end_no_connection_is_kept() -> None:
    async with scripted(None, found(b"one")) as store:
        get = anonymous(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(data_of, get)
            while not store.requests:  # noqa: ASYNC110 - the store tells nobody
                await trio.sleep(0.01)
            get._http.close()
            nursery.cancel_scope.cancel()
        assert await data_of(get) == b"one"  # of a call that ends later
        await store.ends.acquire()
        await store.ends.acquire()
