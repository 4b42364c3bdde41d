"""From purerpc's services to what the transport calls, by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from avion_media.wire import purerpc


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    path: str
    handler: Callable[..., Any]
    """Takes the message, or the iterator of messages, and the `Call`."""
    parse: Callable[[bytes], Any]
    streams_requests: bool
    streams_responses: bool

    @property
    def is_stream(self) -> bool:
        """Whether a call of it may last, since the client or the handler may go on sending."""
        return self.streams_requests or self.streams_responses


def methods_of(services: Iterable[purerpc.Service]) -> dict[str, Method]:
    """All methods of the services, by path."""
    return {method.path: method for service in services for method in _methods(service)}


def _methods(service: purerpc.Service) -> Iterable[Method]:
    kinds = purerpc.Cardinality
    for name, bound in service.methods.items():
        cardinality = bound.signature.cardinality
        yield Method(
            path=f"/{service.name}/{name}",
            handler=bound.method_fn,
            parse=bound.signature.request_type.FromString,
            streams_requests=cardinality in (kinds.STREAM_UNARY, kinds.STREAM_STREAM),
            streams_responses=cardinality in (kinds.UNARY_STREAM, kinds.STREAM_STREAM),
        )
