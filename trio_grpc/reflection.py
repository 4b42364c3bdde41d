"""Server reflection, v1 and v1alpha: what grpcurl and its like ask to learn the services' messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from trio_grpc.context import CallContext
from trio_grpc.service import Service
from trio_grpc.status import Code
from trio_grpc.wire import transport_pool
from trio_grpc.wire.grpc.reflection.v1 import reflection_pb2 as v1
from trio_grpc.wire.grpc.reflection.v1.reflection_grpc import ServerReflectionServicer as ServicerV1
from trio_grpc.wire.grpc.reflection.v1alpha import reflection_pb2 as v1alpha
from trio_grpc.wire.grpc.reflection.v1alpha.reflection_grpc import ServerReflectionServicer as ServicerV1Alpha


def reflection_services(services: Iterable[Service]) -> list[Service]:
    """Both versions of the reflection service, telling about ``services`` and themselves."""
    catalogue = _Catalogue()
    servicers = (_servicer(ServicerV1, v1, catalogue), _servicer(ServicerV1Alpha, v1alpha, catalogue))
    reflecting = [servicer.service for servicer in servicers]
    for service in (*services, *reflecting):
        catalogue.add(service.name)
    return reflecting


class _Catalogue:
    """The files that define the services, and all that those import. Nothing else of the pools is shown."""

    def __init__(self) -> None:
        self.services: list[str] = []
        self._files: dict[str, FileDescriptor] = {}

    def add(self, service: str) -> None:
        self.services.append(service)
        with suppress(KeyError):  # a service that was put together without a .proto file has only a name
            for file in _with_imports(_pool_of(service).FindServiceByName(service).file):
                self._files[file.name] = file

    def file(self, name: str) -> list[FileDescriptor]:
        file = self._files.get(name)
        return [] if file is None else list(_with_imports(file))

    def file_of(self, symbol: str) -> list[FileDescriptor]:
        pool = _pool_of(symbol)
        with suppress(KeyError):
            return self.file(pool.FindFileContainingSymbol(symbol).name)
        with suppress(KeyError):  # a method, which is not found as a symbol
            return self.file(pool.FindMethodByName(symbol).containing_service.file.name)
        return []


def _pool_of(name: str) -> DescriptorPool:
    return transport_pool if name.startswith("grpc.") else descriptor_pool.Default()


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    """The file first, then what it imports, each once."""
    waiting, seen = [file], set()
    while waiting:
        each = waiting.pop()
        if each.name not in seen:
            seen.add(each.name)
            yield each
            waiting.extend(each.dependencies)


def _answer(catalogue: _Catalogue, wire: Any, request: Any) -> Any:
    """One response; ``wire`` is the module of the version asked."""
    response = wire.ServerReflectionResponse(valid_host=request.host, original_request=request)
    files: list[FileDescriptor] = []
    code, error = Code.NOT_FOUND, "not defined here"
    match request.WhichOneof("message_request"):
        case "list_services":
            for name in catalogue.services:
                response.list_services_response.service.add(name=name)
            return response
        case "file_by_filename":
            files = catalogue.file(request.file_by_filename)
        case "file_containing_symbol":
            files = catalogue.file_of(request.file_containing_symbol)
        case _:
            code, error = Code.UNIMPLEMENTED, "there are no extensions here"
    if files:
        response.file_descriptor_response.file_descriptor_proto.extend([file.serialized_pb for file in files])
    else:
        response.error_response.error_code = int(code)
        response.error_response.error_message = error
    return response


def _servicer(base: Any, wire: Any, catalogue: _Catalogue) -> Any:
    class Reflection(base):  # type: ignore[misc] # generated code is untyped
        async def ServerReflectionInfo(self, requests: AsyncIterator[Any], context: CallContext) -> AsyncIterator[Any]:
            async for request in requests:
                yield _answer(catalogue, wire, request)

    return Reflection()
