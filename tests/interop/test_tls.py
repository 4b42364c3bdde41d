"""TLS: ALPN, certificates of clients, and clients that are not welcome."""

from __future__ import annotations

import ssl

import grpc
import pytest
import trio

from tests.interop.conftest import Certificates
from tests.interop.methods import TIMEOUT_S, say
from tests.interop.serving import EchoServer, echo_server, in_thread
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import GrpcLimits

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # and empty SETTINGS


async def _secured(
    server: EchoServer, certificates: Certificates, protocols: list[str]
) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context(cafile=str(certificates.ca_path))
    if protocols:
        context.set_alpn_protocols(protocols)
    plain = await trio.open_tcp_stream("127.0.0.1", server.port)
    return trio.SSLStream(plain, context, server_hostname="localhost")


def _say_hello(server: EchoServer, credentials: grpc.ChannelCredentials) -> wire.EchoResponse:
    with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
        return say(channel)(wire.EchoRequest(text="hello", body=bytes(300_000)), timeout=TIMEOUT_S)  # type: ignore[no-any-return]


async def test_a_client_that_trusts_us_is_served(certificates: Certificates) -> None:
    async with echo_server(ssl_context=certificates.server_context()) as server:
        credentials = grpc.ssl_channel_credentials(certificates.ca_pem)
        response = await in_thread(lambda: _say_hello(server, credentials))
        assert (response.text, len(response.body)) == ("hello", 300_000)
        assert response.seen["certificate"] == "None"


async def test_the_certificate_of_a_client_is_seen_by_handlers(certificates: Certificates) -> None:
    async with echo_server(ssl_context=certificates.server_context(ask_clients=True)) as server:
        key = certificates.client.private_key_pem.bytes()
        chain = b"".join(pem.bytes() for pem in certificates.client.cert_chain_pems)
        credentials = grpc.ssl_channel_credentials(certificates.ca_pem, key, chain)
        response = await in_thread(lambda: _say_hello(server, credentials))
        assert "gateway@avion.test" in response.seen["certificate"]


async def test_a_client_without_a_certificate_is_refused_when_they_are_asked_for(certificates: Certificates) -> None:
    async with echo_server(ssl_context=certificates.server_context(ask_clients=True)) as server:
        credentials = grpc.ssl_channel_credentials(certificates.ca_pem)
        with pytest.raises(grpc.RpcError) as raised:
            await in_thread(lambda: _say_hello(server, credentials))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not server.errors


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
async def test_a_client_that_does_not_speak_http2_is_closed(certificates: Certificates, protocols: list[str]) -> None:
    async with (
        echo_server(ssl_context=certificates.server_context()) as server,
        await _secured(server, certificates, protocols) as stream,
    ):
        assert await stream.receive_some() == b""


async def test_every_end_of_output_is_an_end_of_tls(certificates: Certificates) -> None:
    """Without close_notify, `trio.SSLStream` raises BrokenResourceError."""
    async with echo_server(ssl_context=certificates.server_context()) as server:
        broken, leaving, drained = [await _secured(server, certificates, ["h2"]) for _ in range(3)]
        await broken.send_all(b"no preface of HTTP/2, but longer than one")
        await leaving.receive_some()  # what the server says first
        await (await leaving.unwrap())[0].aclose()
        await drained.send_all(_PREFACE)
        await drained.receive_some()
        await server.server.drain(0.2)
        for stream in (broken, drained):
            async with stream:
                while await stream.receive_some():
                    pass


async def test_a_client_without_tls_or_without_a_handshake_is_closed(certificates: Certificates) -> None:
    limits = GrpcLimits(handshake_timeout_s=0.1)
    async with echo_server(limits, certificates.server_context()) as server:
        for beginning in (b"PRI * HTTP/2.0\r\n\r\n", b""):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                if beginning:
                    await stream.send_all(beginning)
                while await stream.receive_some():
                    pass
        credentials = grpc.ssl_channel_credentials(certificates.ca_pem)
        assert (await in_thread(lambda: _say_hello(server, credentials))).text == "hello"
        assert not server.errors
