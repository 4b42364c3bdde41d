"""Health and reflection, asked by the clients that grpcio ships."""

from __future__ import annotations

import queue
from typing import Any

import grpc
import pytest
import trio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.interop.methods import SERVICE, TIMEOUT_S
from tests.interop.serving import EchoServer, echo_server, in_thread, with_grpcio
from trio_grpc import Code

_Status = health_pb2.HealthCheckResponse


def _check(channel: grpc.Channel, service: str = "") -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S).status


async def test_health_follows_what_is_set() -> None:
    async with echo_server() as server:
        assert await with_grpcio(server, _check) == _Status.NOT_SERVING
        server.health.set_serving()
        server.health.set_serving(SERVICE)
        assert await with_grpcio(server, _check) == _Status.SERVING
        assert await with_grpcio(server, lambda channel: _check(channel, SERVICE)) == _Status.SERVING
        server.health.set_serving(SERVICE, is_serving=False)
        assert await with_grpcio(server, lambda channel: _check(channel, SERVICE)) == _Status.NOT_SERVING


async def test_health_of_an_unknown_service_is_not_found() -> None:
    async with echo_server() as server:
        with pytest.raises(grpc.RpcError) as raised:
            await with_grpcio(server, lambda channel: _check(channel, "unknown"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_each_change_and_ends_with_the_drain() -> None:
    async with echo_server() as server:
        seen: queue.Queue[Any] = queue.Queue()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, lambda: _watch(server, "later", seen))
            assert await _next(seen) == _Status.SERVICE_UNKNOWN
            server.health.set_serving("later")
            assert await _next(seen) == _Status.SERVING
            server.health.set_serving("later", is_serving=False)
            assert await _next(seen) == _Status.NOT_SERVING
            await server.server.drain(5)
            assert await _next(seen) is grpc.StatusCode.UNAVAILABLE
        assert server.codes() == [Code.UNAVAILABLE]


def _watch(server: EchoServer, service: str, seen: queue.Queue[Any]) -> None:
    with grpc.insecure_channel(server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        stream = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=2 * TIMEOUT_S)
        try:
            for response in stream:
                seen.put(response.status)
        except grpc.RpcError:
            seen.put(stream.code())


async def _next(seen: queue.Queue[Any]) -> Any:
    return await in_thread(lambda: seen.get(timeout=TIMEOUT_S))


async def test_reflection_tells_services_and_messages() -> None:
    def client(channel: grpc.Channel) -> tuple[list[str], list[str], list[str]]:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        methods = [method.name for method in pool.FindServiceByName(SERVICE).methods]
        fields = [field.name for field in pool.FindMessageTypeByName("avion.test.EchoRequest").fields]
        return sorted(database.get_services()), methods, fields

    async with echo_server() as server:
        services, methods, fields = await with_grpcio(server, client)
        assert services == [
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]
        assert methods == ["Say", "Repeat", "Collect", "Chat", "NotWritten"]
        assert fields == ["text", "body", "behaviour", "count", "response_bytes"]


async def test_reflection_v1_answers_like_v1alpha() -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(file_by_filename="echo.proto"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{SERVICE}.Say"),
    ]

    def ask(channel: grpc.Channel, version: str) -> list[list[bytes]]:
        method = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = method(iter(requests), timeout=TIMEOUT_S)
        return [list(answer.file_descriptor_response.file_descriptor_proto) for answer in answers]

    async with echo_server() as server:
        v1 = await with_grpcio(server, lambda channel: ask(channel, "v1"))
        assert v1 == await with_grpcio(server, lambda channel: ask(channel, "v1alpha"))
        assert all(v1)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"file_containing_symbol": "google.protobuf.Any"}, Code.NOT_FOUND),  # in the pool, but no concern of ours
        ({"file_by_filename": "../etc/passwd"}, Code.NOT_FOUND),
        ({"all_extension_numbers_of_type": "avion.test.EchoRequest"}, Code.UNIMPLEMENTED),
        ({}, Code.UNIMPLEMENTED),
    ],
)
async def test_reflection_tells_nothing_else(request_: dict[str, str], code: Code) -> None:
    def client(channel: grpc.Channel) -> int:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(**request_)]), timeout=TIMEOUT_S
        )
        return int(next(answers).error_response.error_code)

    async with echo_server() as server:
        assert await with_grpcio(server, client) == int(code)
