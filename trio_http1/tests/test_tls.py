"""TLS: requests and responses of every kind, handshakes that hang or fail, and nothing in plain text."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trustme

from trio_http1 import AsgiServer, HttpLimits, HttpServer, Relayed, Request, Response

LARGE = bytes(range(256)) * 8192  # 2 MiB
AUTHORITY = trustme.CA()


class Windows:
    """A body that would rather pass on its rest itself."""

    length_bytes = 3 * len(LARGE)

    async def windows(self) -> AsyncGenerator[bytes | Relayed, None]:
        yield LARGE
        yield self._relay
        yield LARGE
        yield LARGE

    async def _relay(self, client: trio.SocketStream, timeout_s: float) -> int:
        raise AssertionError("plain text would reach the client")

    def close(self) -> None:
        pass


async def handle(request: Request) -> Response:
    match request.path:
        case "/body":
            return Response(200, {}, str(len(await request.read_body())).encode())
        case "/windows":
            return Response(200, {}, Windows())
    return Response(200, {}, b"served")


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@asynccontextmanager
async def served(server: HttpServer | None = None, *, client_ca: bool = False) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    server = server or HttpServer(handle, HttpLimits(handshake_timeout_s=0.2))
    server.ssl_context = lambda: context
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, [listener])
            yield listener.socket.getsockname()[1]
            nursery.cancel_scope.cancel()


async def test_requests_and_responses_of_every_kind() -> None:
    async with served() as port, httpx.AsyncClient(verify=trusting(), trust_env=False) as client:
        url = f"https://localhost:{port}"
        for _ in range(2):  # on one connection
            assert (await client.get(url)).text == "served"
            assert (await client.post(f"{url}/body", content=b"x" * 60_000)).text == "60000"
            assert (await client.get(f"{url}/windows")).content == LARGE * 3


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered() -> None:
    async with served() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        await stream.send_all(outgoing.read())
        while True:
            incoming.write(await stream.receive_some())
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await stream.send_all(outgoing.read())  # the client's Finished and its request, in one piece
        while data := await stream.receive_some():
            incoming.write(data)
        received = b""
        while piece := client.read():  # until close_notify: nothing was cut off
            received += piece
        assert received.endswith(b"served")


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_handshake_that_hangs_or_fails_ends_the_connection(hello: bytes) -> None:
    async with served() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(hello)
        received = b""
        while piece := await stream.receive_some():
            received += piece
        assert b"HTTP" not in received


async def test_without_the_certificate_that_is_wanted_nothing_is_answered() -> None:
    own = trusting()
    AUTHORITY.issue_cert("client").configure_cert(own)
    async with served(client_ca=True) as port:
        async with httpx.AsyncClient(verify=own, trust_env=False) as known:
            assert (await known.get(f"https://localhost:{port}")).text == "served"
        async with httpx.AsyncClient(verify=trusting(), trust_env=False) as stranger:
            with pytest.raises(httpx.TransportError):
                await stranger.get(f"https://localhost:{port}")


async def test_an_application_knows_its_scheme() -> None:
    async def application(scope: dict[str, str], _receive: object, send: object) -> None:
        assert callable(send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    server = AsgiServer(application, HttpLimits())
    async with served(server) as port, httpx.AsyncClient(verify=trusting(), trust_env=False) as client:
        assert (await client.get(f"https://localhost:{port}")).text == "https"
