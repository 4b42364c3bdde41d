"""From services to what the transport calls, by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from avion_media.wire.service import Service


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    path: str
    handler: Callable[..., Any]
    """Takes the message, or the iterator of messages, and the `CallContext`."""
    parse: Callable[[bytes], Any]
    streams_requests: bool
    streams_responses: bool
    max_message_bytes: int
    takes: dict[str, int] = field(init=False)
    """What a call of it takes from its peer's account."""

    def __post_init__(self) -> None:
        takes = {"calls": 1, "streams": 1} if self.is_stream else {"calls": 1}
        object.__setattr__(self, "takes", takes)

    @property
    def is_stream(self) -> bool:
        """Whether a call of it may last, since the client or the handler may go on sending."""
        return self.streams_requests or self.streams_responses


def methods_of(services: Iterable[Service], max_message_bytes: int) -> dict[str, Method]:
    """Return all methods of the services, by path."""
    return {method.path: method for service in services for method in _methods(service, max_message_bytes)}


def _methods(service: Service, max_message_bytes: int) -> Iterable[Method]:
    for name, (handler, signature) in service.methods.items():
        streams_requests, streams_responses = signature.cardinality.value
        yield Method(
            path=f"/{service.name}/{name}",
            handler=handler,
            parse=signature.request_type.FromString,
            streams_requests=streams_requests,
            streams_responses=streams_responses,
            max_message_bytes=max_message_bytes,
        )
