"""Calls that are refused by their headers: what the client, the observer and the check of callers see of them."""

from __future__ import annotations

import grpc
import pytest
import trio

from tests.interop.methods import TIMEOUT_S, say
from tests.interop.serving import echo_server, in_thread
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import CallContext, Code, RpcError
from trio_grpc.tests.raw_client import Headers, raw_client, request_headers

HELLO = wire.EchoRequest(text="hello")
_REFUSED_CALLS = 400


async def test_data_in_flight_of_refused_calls_does_not_end_the_channel() -> None:
    """grpcio sends up to the stream's window before it has seen the refusal."""
    async with echo_server() as server:

        def client() -> tuple[set[grpc.StatusCode], str]:
            large = wire.EchoRequest(body=bytes(200_000))
            with grpc.insecure_channel(server.address) as channel:
                innocent = say(channel).future(wire.EchoRequest(text="innocent", behaviour="hang"), timeout=30)
                refuse = channel.unary_unary("/avion.test.Echo/Nothing", wire.EchoRequest.SerializeToString, bytes)
                codes = set()
                for _ in range(_REFUSED_CALLS // 20):
                    calls = [refuse.future(large, timeout=TIMEOUT_S) for _ in range(20)]
                    codes |= {call.code() for call in calls}
                release()
                return codes, innocent.result().text

        token = trio.lowlevel.current_trio_token()

        def release() -> None:
            trio.from_thread.run_sync(server.echo.released.set, trio_token=token)

        codes, text = await in_thread(client)
        assert codes == {grpc.StatusCode.UNIMPLEMENTED}
        assert text == "innocent"


_REFUSED: list[tuple[str, Headers, Code]] = [
    ("encoding", [*request_headers(), ("grpc-encoding", "br")], Code.UNIMPLEMENTED),
    ("timeout", [*request_headers(), ("grpc-timeout", "x")], Code.INVALID_ARGUMENT),
    ("405", request_headers(_method="GET"), Code.UNKNOWN),
    ("415", request_headers(content_type="text/plain"), Code.UNKNOWN),
]


@pytest.mark.parametrize(("headers", "code"), [case[1:] for case in _REFUSED], ids=[case[0] for case in _REFUSED])
async def test_a_refused_call_is_authorised_and_observed(headers: Headers, code: Code) -> None:
    asked: list[str] = []
    async with (
        echo_server(authorise=lambda call: asked.append(call.method)) as server,
        raw_client(server.port) as client,
    ):
        await client.send(client.call(1, HELLO, headers))
        await client.read_until(lambda seen: seen.headers.get(1))
        await server.until_ended(1)
        assert [(call.method, call.code) for call in server.ended] == [("/avion.test.Echo/Say", code)]
        assert asked == ["/avion.test.Echo/Say"]


@pytest.mark.parametrize("headers", [case[1] for case in _REFUSED[:2]], ids=["encoding", "timeout"])
async def test_an_unknown_caller_learns_only_that_its_call_is_not_authorised(headers: Headers) -> None:
    def refuse(_call: CallContext) -> None:
        raise RpcError(Code.UNAUTHENTICATED, "no valid credentials")

    async with echo_server(authorise=refuse) as server, raw_client(server.port) as client:
        await client.send(client.call(1, HELLO, headers))
        await client.read_until(lambda seen: seen.status(1) == str(int(Code.UNAUTHENTICATED)))
        await server.until_ended(1)
        assert server.codes() == [Code.UNAUTHENTICATED]
