# ruff: noqa
# fmt: off
# mypy: ignore-errors
from trio_grpc.wire import purerpc
from trio_grpc.service import Cardinality, RPCSignature, Service, Servicer
import tests.interop.wire.echo_pb2 as echo__pb2


class EchoServicer(Servicer):
    async def Say(self, request, context):
        raise NotImplementedError()

    async def Repeat(self, request, context):
        raise NotImplementedError()

    async def Collect(self, requests, context):
        raise NotImplementedError()

    async def Chat(self, requests, context):
        raise NotImplementedError()

    async def NotWritten(self, request, context):
        raise NotImplementedError()

    @property
    def service(self) -> Service:
        service_obj = Service(
            "avion.test.Echo"
        )
        service_obj.add_method(
            "Say",
            self.Say,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "Repeat",
            self.Repeat,
            RPCSignature(
                Cardinality.UNARY_STREAM,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "Collect",
            self.Collect,
            RPCSignature(
                Cardinality.STREAM_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "Chat",
            self.Chat,
            RPCSignature(
                Cardinality.STREAM_STREAM,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "NotWritten",
            self.NotWritten,
            RPCSignature(
                Cardinality.UNARY_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        return service_obj


class EchoStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "avion.test.Echo",
            channel
        )
        self.Say = self._client.get_method_stub(
            "Say",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        self.Repeat = self._client.get_method_stub(
            "Repeat",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        self.Collect = self._client.get_method_stub(
            "Collect",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        self.Chat = self._client.get_method_stub(
            "Chat",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        self.NotWritten = self._client.get_method_stub(
            "NotWritten",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
