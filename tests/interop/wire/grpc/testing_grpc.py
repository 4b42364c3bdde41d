# ruff: noqa
# fmt: off
# mypy: ignore-errors
from trio_grpc.wire import purerpc
from trio_grpc.service import Cardinality, RPCSignature, Service, Servicer
import tests.interop.wire.grpc.testing_pb2 as grpc_dot_testing__pb2


class TestServiceServicer(Servicer):
    async def EmptyCall(self, request, context):
        raise NotImplementedError()

    async def UnaryCall(self, request, context):
        raise NotImplementedError()

    async def StreamingOutputCall(self, request, context):
        raise NotImplementedError()

    async def StreamingInputCall(self, requests, context):
        raise NotImplementedError()

    async def FullDuplexCall(self, requests, context):
        raise NotImplementedError()

    async def UnimplementedCall(self, request, context):
        raise NotImplementedError()

    @property
    def service(self) -> Service:
        service_obj = Service(
            "grpc.testing.TestService"
        )
        service_obj.add_method(
            "EmptyCall",
            self.EmptyCall,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.Empty,
                grpc_dot_testing__pb2.Empty,
            )
        )
        service_obj.add_method(
            "UnaryCall",
            self.UnaryCall,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.SimpleRequest,
                grpc_dot_testing__pb2.SimpleResponse,
            )
        )
        service_obj.add_method(
            "StreamingOutputCall",
            self.StreamingOutputCall,
            RPCSignature(
                Cardinality.UNARY_STREAM,
                grpc_dot_testing__pb2.StreamingOutputCallRequest,
                grpc_dot_testing__pb2.StreamingOutputCallResponse,
            )
        )
        service_obj.add_method(
            "StreamingInputCall",
            self.StreamingInputCall,
            RPCSignature(
                Cardinality.STREAM_UNARY,
                grpc_dot_testing__pb2.StreamingInputCallRequest,
                grpc_dot_testing__pb2.StreamingInputCallResponse,
            )
        )
        service_obj.add_method(
            "FullDuplexCall",
            self.FullDuplexCall,
            RPCSignature(
                Cardinality.STREAM_STREAM,
                grpc_dot_testing__pb2.StreamingOutputCallRequest,
                grpc_dot_testing__pb2.StreamingOutputCallResponse,
            )
        )
        service_obj.add_method(
            "UnimplementedCall",
            self.UnimplementedCall,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.Empty,
                grpc_dot_testing__pb2.Empty,
            )
        )
        return service_obj


class TestServiceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "grpc.testing.TestService",
            channel
        )
        self.EmptyCall = self._client.get_method_stub(
            "EmptyCall",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.Empty,
                grpc_dot_testing__pb2.Empty,
            )
        )
        self.UnaryCall = self._client.get_method_stub(
            "UnaryCall",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.SimpleRequest,
                grpc_dot_testing__pb2.SimpleResponse,
            )
        )
        self.StreamingOutputCall = self._client.get_method_stub(
            "StreamingOutputCall",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                grpc_dot_testing__pb2.StreamingOutputCallRequest,
                grpc_dot_testing__pb2.StreamingOutputCallResponse,
            )
        )
        self.StreamingInputCall = self._client.get_method_stub(
            "StreamingInputCall",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_UNARY,
                grpc_dot_testing__pb2.StreamingInputCallRequest,
                grpc_dot_testing__pb2.StreamingInputCallResponse,
            )
        )
        self.FullDuplexCall = self._client.get_method_stub(
            "FullDuplexCall",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                grpc_dot_testing__pb2.StreamingOutputCallRequest,
                grpc_dot_testing__pb2.StreamingOutputCallResponse,
            )
        )
        self.UnimplementedCall = self._client.get_method_stub(
            "UnimplementedCall",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.Empty,
                grpc_dot_testing__pb2.Empty,
            )
        )


class UnimplementedServiceServicer(Servicer):
    async def UnimplementedCall(self, request, context):
        raise NotImplementedError()

    @property
    def service(self) -> Service:
        service_obj = Service(
            "grpc.testing.UnimplementedService"
        )
        service_obj.add_method(
            "UnimplementedCall",
            self.UnimplementedCall,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.Empty,
                grpc_dot_testing__pb2.Empty,
            )
        )
        return service_obj


class UnimplementedServiceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "grpc.testing.UnimplementedService",
            channel
        )
        self.UnimplementedCall = self._client.get_method_stub(
            "UnimplementedCall",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                grpc_dot_testing__pb2.Empty,
                grpc_dot_testing__pb2.Empty,
            )
        )
