"""What honest clients send never uses up half of a connection's flood units."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trio

from tests.interop.methods import TIMEOUT_S, chat, collect, repeat, say
from tests.interop.programs import PURERPC
from tests.interop.serving import echo_server, server_of_cases, with_grpcio
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code, GrpcLimits
from trio_grpc.protocol import Protocol
from trio_grpc.stream import Event

_BURST = GrpcLimits().max_flood_units


class _Lowest:
    """The least that any connection had left."""

    units = float(_BURST)


@pytest.fixture
def lowest(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Lowest]:
    """Looks at every connection of this process after each piece that it has received."""
    seen = _Lowest()
    receive = Protocol.receive

    def noted(core: Protocol, data: bytes, now: float, work: float) -> list[Event]:
        events = receive(core, data, now, work)
        seen.units = min(seen.units, core._flood.left)
        return events

    monkeypatch.setattr(Protocol, "receive", noted)
    yield seen
    print(f"\n{seen.units:.0f} of {_BURST} units were left")
    assert seen.units >= _BURST / 2


def _unary(channel: grpc.Channel) -> None:
    for _ in range(20):
        calls = [say(channel).future(wire.EchoRequest(text="x"), timeout=TIMEOUT_S) for _ in range(50)]
        assert all(call.result().text == "x" for call in calls)


def _refused(channel: grpc.Channel) -> None:
    refuse = channel.unary_unary("/avion.test.Echo/Nothing", wire.EchoRequest.SerializeToString, bytes)
    for _ in range(20):
        calls = [refuse.future(wire.EchoRequest(body=bytes(200_000)), timeout=TIMEOUT_S) for _ in range(20)]
        assert {call.code() for call in calls} == {grpc.StatusCode.UNIMPLEMENTED}


def _deadlines(channel: grpc.Channel) -> None:
    for _ in range(4):
        hanging = wire.EchoRequest(behaviour="hang")
        # A call in progress has its price lent, about 4 units: 75 at once leave room for a machine that lags.
        calls = [say(channel).future(hanging, timeout=0.5) for _ in range(75)]
        assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}


def _down(channel: grpc.Channel) -> None:
    stream = repeat(channel)(wire.EchoRequest(text="x", count=100, response_bytes=1 << 20), timeout=60)
    assert sum(len(response.body) for response in stream) == 100 << 20


def _up(channel: grpc.Channel) -> None:
    large = wire.EchoRequest(text="large", body=bytes((4 << 20) - 100), response_bytes=1)
    for _ in range(5):
        assert say(channel)(large, timeout=TIMEOUT_S).text == "large"
    assert collect(channel)(iter([wire.EchoRequest(text="x")] * 2000), timeout=60).text == "x" * 2000


def _both_ways(channel: grpc.Channel) -> None:
    answers = chat(channel)(iter([wire.EchoRequest(text="x")] * 500), timeout=60)
    assert sum(1 for _ in answers) == 500


def _watches(channel: grpc.Channel) -> None:
    watches = [repeat(channel)(wire.EchoRequest(text="x", count=1, behaviour="hang"), timeout=60) for _ in range(50)]
    for watch in watches:
        next(watch)
    threading.Event().wait(1.1)  # a call that is given up later is not part of a flood
    for watch in watches:
        watch.cancel()


@pytest.mark.parametrize("use", [_unary, _refused, _deadlines, _down, _up, _both_ways, _watches])
async def test_grpcio(lowest: _Lowest, use: Callable[[grpc.Channel], None]) -> None:
    async with echo_server() as server:
        await with_grpcio(server, use)
        assert not server.errors


async def test_grpc_js(lowest: _Lowest, node_client: Path) -> None:
    async with echo_server() as server:
        await trio.run_process(["node", str(node_client), server.address], capture_stdout=True)
        await server.until_ended(307)


async def test_purerpc(lowest: _Lowest) -> None:
    async with echo_server() as server:
        await trio.run_process([*PURERPC, str(server.port)], capture_stdout=True)
        await server.until_ended(6)
        assert server.codes()[-1] is Code.CANCELLED


async def test_grpc_go(lowest: _Lowest, go_client: Path) -> None:
    """Ten times all interoperability cases: three calls of each time are given up young."""
    async with server_of_cases() as address:
        await trio.run_process([go_client, address, "10"], capture_stdout=True)
