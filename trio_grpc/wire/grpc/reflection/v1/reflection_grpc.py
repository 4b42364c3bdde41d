# ruff: noqa
# fmt: off
# mypy: ignore-errors
from trio_grpc.wire import purerpc
from trio_grpc.service import Cardinality, RPCSignature, Service, Servicer
import trio_grpc.wire.grpc.reflection.v1.reflection_pb2 as grpc_dot_reflection_dot_v1_dot_reflection__pb2


class ServerReflectionServicer(Servicer):
    async def ServerReflectionInfo(self, requests, context):
        raise NotImplementedError()

    @property
    def service(self) -> Service:
        service_obj = Service(
            "grpc.reflection.v1.ServerReflection"
        )
        service_obj.add_method(
            "ServerReflectionInfo",
            self.ServerReflectionInfo,
            RPCSignature(
                Cardinality.STREAM_STREAM,
                grpc_dot_reflection_dot_v1_dot_reflection__pb2.ServerReflectionRequest,
                grpc_dot_reflection_dot_v1_dot_reflection__pb2.ServerReflectionResponse,
            )
        )
        return service_obj


class ServerReflectionStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "grpc.reflection.v1.ServerReflection",
            channel
        )
        self.ServerReflectionInfo = self._client.get_method_stub(
            "ServerReflectionInfo",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                grpc_dot_reflection_dot_v1_dot_reflection__pb2.ServerReflectionRequest,
                grpc_dot_reflection_dot_v1_dot_reflection__pb2.ServerReflectionResponse,
            )
        )
