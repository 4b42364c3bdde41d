"""The check at the begin of every call: before a method is looked up, before a body has come, for every service."""

from __future__ import annotations

import pytest

from tests.interop.serving import EchoServer, echo_server
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import CallContext, Code, RpcError
from trio_grpc.tests.raw_client import RawClient, data, message, raw_client, request_headers

HELLO = wire.EchoRequest(text="hello")


def only_with_the_word(call: CallContext) -> None:
    """Who says the word is somebody."""
    if call.metadata.get("authorization") == "Bearer friend":
        call.caller = "somebody"
        return
    raise RpcError(Code.UNAUTHENTICATED, "no valid credentials")


async def _refused(client: RawClient, stream_id: int) -> str:
    await client.read_until(lambda seen: seen.status(stream_id) == str(int(Code.UNAUTHENTICATED)))
    return dict(client.headers[stream_id][-1])["grpc-message"]


async def test_who_is_known_is_served_and_named() -> None:
    async with echo_server(authorise=only_with_the_word) as server, raw_client(server.port) as client:
        known = [*request_headers(), ("authorization", "Bearer friend")]
        await client.send(client.call(1, HELLO, known))
        await client.read_until(lambda seen: seen.status(1) == "0")
        await client.send(client.call(3, HELLO))
        assert await _refused(client, 3) == "no valid credentials"
        await server.until_ended(2)
        assert [call.caller for call in server.ended] == ["somebody", ""]


@pytest.mark.parametrize(
    "path",
    [
        "/avion.test.Echo/Say",
        "/avion.test.Echo/Collect",
        "/avion.test.Echo/Nothing",
        "/nobody/Nothing",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_a_stranger_hears_the_same_of_every_method(path: str) -> None:
    async with echo_server(authorise=only_with_the_word) as server, raw_client(server.port) as client:
        await client.send(client.head(1, request_headers(_path=path)))
        assert await _refused(client, 1) == "no valid credentials"
        assert not client.body(1)
        # What of the body was under way already is swallowed, and the connection goes on.
        await client.send(data(1, message(HELLO), end=True), client.call(3, HELLO))
        assert await _refused(client, 3) == "no valid credentials"
        assert server.server.streams == 0


async def test_a_check_that_fails_lets_nobody_through_and_tells_nothing() -> None:
    def broken(_call: CallContext) -> None:
        raise KeyError("a secret")

    async with echo_server(authorise=broken) as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO))
        await client.read_until(lambda seen: seen.status(1) == str(int(Code.INTERNAL)))
        assert "secret" not in str(client.headers[1])
        assert [type(error) for _, _, error in server.errors] == [KeyError]


async def _calls_of_strangers(server: EchoServer, count: int) -> None:
    async with raw_client(server.port) as client:
        for number in range(count):
            await client.send(client.call(2 * number + 1, HELLO))
        await client.read_until(lambda seen: seen.status(2 * count - 1) or seen.goaways)


async def test_strangers_do_not_keep_anything_busy() -> None:
    async with echo_server(authorise=only_with_the_word) as server:
        await _calls_of_strangers(server, 500)
        assert server.server.calls == 0
