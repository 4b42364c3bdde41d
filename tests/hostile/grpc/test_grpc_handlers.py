"""Who takes handlers and keeps them does not take everybody's."""

from __future__ import annotations

from tests.hostile.grpc.test_grpc_clients import served_all_along
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import Code, GrpcLimits
from trio_grpc.tests.raw_client import data, message, raw_client, request_headers
from trio_grpc.wire.grpc.health.v1 import health_pb2

_HANG = wire.EchoRequest(behaviour="hang")
_EXHAUSTED = str(int(Code.RESOURCE_EXHAUSTED))


async def test_calls_of_one_peer_leave_handlers_to_others() -> None:
    limits = GrpcLimits(max_calls=10, max_calls_per_peer=5)
    async with served_all_along(limits) as server, raw_client(server.port, local_address="127.0.0.2") as attacker:
        await attacker.send(*(attacker.call(n, _HANG) for n in range(1, 41, 2)))
        await attacker.read_until(lambda seen: sum(seen.status(n) == _EXHAUSTED for n in range(1, 41, 2)) == 15)
        assert server.echo.entered == 5


async def test_streams_leave_handlers_to_health_checks_and_other_calls_that_end() -> None:
    limits = GrpcLimits(max_calls=16)
    async with served_all_along(limits) as server, raw_client(server.port) as attacker:
        server.health.set_serving()
        watch = request_headers(_path="/grpc.health.v1.Health/Watch")
        reflect = request_headers(_path="/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        await attacker.send(*(attacker.call(n, wire.EchoRequest(), watch) for n in (1, 3, 5)))
        await attacker.send(*(attacker.head(n, reflect) for n in range(7, 41, 2)))
        await attacker.read_until(lambda seen: sum(seen.status(n) == _EXHAUSTED for n in range(1, 41, 2)) == 14)
        check = request_headers(_path="/grpc.health.v1.Health/Check")
        await attacker.send(attacker.head(41, check), data(41, message(b""), end=True))
        await attacker.read_until(lambda seen: seen.status(41) == "0")
        answer = health_pb2.HealthCheckResponse.FromString(attacker.body(41)[5:])
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
