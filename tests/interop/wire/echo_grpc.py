# ruff: noqa
# fmt: off
# mypy: ignore-errors
from avion_media.wire import purerpc
import tests.interop.wire.echo_pb2 as echo__pb2


class EchoServicer(purerpc.Servicer):
    async def Say(self, input_message):
        raise NotImplementedError()

    async def Repeat(self, input_message):
        raise NotImplementedError()

    async def Collect(self, input_messages):
        raise NotImplementedError()

    async def Chat(self, input_messages):
        raise NotImplementedError()

    async def NotWritten(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "avion.test.Echo"
        )
        service_obj.add_method(
            "Say",
            self.Say,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "Repeat",
            self.Repeat,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "Collect",
            self.Collect,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_UNARY,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "Chat",
            self.Chat,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                echo__pb2.EchoRequest,
                echo__pb2.EchoResponse,
            )
        )
        service_obj.add_method(
            "NotWritten",
            self.NotWritten,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
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
