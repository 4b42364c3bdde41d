"""The media service's methods by two clients of other makes, grpcio and grpc-go, with the same results."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from avion_media.common.wire.avion import media_pb2 as wire
from tests.interop.programs import built

MAKES = ("grpcio", "grpc-go")
_METHODS = wire.DESCRIPTOR.services_by_name["MediaService"].methods_by_name
_TIMEOUT_S = 20.0


class CallRefused(Exception):
    """A call that did not end with OK. ``reason`` is that of its ErrorInfo, ``fields`` are those of its BadRequest."""

    def __init__(self, code: str, reason: str = "", fields: dict[str, str] | None = None) -> None:
        super().__init__(code, reason, fields)
        self.code = code
        self.reason = reason
        self.fields = fields or {}


class MediaCaller(Protocol):
    """Makes calls with the token of a caller, which is empty for none."""

    def call(self, method: str, request: Message, token: str) -> Any:
        """Return the response. Raises `CallRefused`."""


class _ByGrpcio:
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def call(self, method: str, request: Message, token: str) -> Any:
        send = self._channel.unary_unary(
            f"/avion.MediaService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=_response_type(method).FromString,
        )
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            return send(request, metadata=metadata, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            status = rpc_status.from_call(error)
            raise _refusal(error.code().name, status.details if status else ()) from None


class _ByGrpcGo:
    """A process, which gets a line of JSON for each call."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, method: str, request: Message, token: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"Method": method, "Token": token, "Request": json_format.MessageToDict(request)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        status = status_pb2.Status.FromString(base64.b64decode(answer["status"] or ""))
        if status.code:
            raise _refusal(_name_of(status.code), status.details)
        return json_format.ParseDict(answer["response"], _response_type(method)())


@contextmanager
def media_caller(make: str, address: str, directory: Path) -> Iterator[MediaCaller]:
    """Yield a client of one of `MAKES`. ``directory`` is for a program that must be built."""
    if make == "grpcio":
        with grpc.insecure_channel(address) as channel:
            yield _ByGrpcio(channel)
        return
    program = built(Path(__file__).parent / "media" / "main.go", directory)
    with subprocess.Popen([program, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield _ByGrpcGo(process)  # it ends with its input


def _response_type(method: str) -> Any:
    return message_factory.GetMessageClass(_METHODS[method].output_type)


def _name_of(number: int) -> str:
    return next(str(each.name) for each in grpc.StatusCode if each.value[0] == number)


def _refusal(code: str, details: Sequence[Any]) -> CallRefused:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for each in details:
        for known in (info, bad):
            if each.Is(known.DESCRIPTOR):
                each.Unpack(known)
    return CallRefused(code, info.reason, {each.field: each.reason for each in bad.field_violations})
