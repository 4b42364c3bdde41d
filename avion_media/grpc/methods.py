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
        may_last = self.streams_requests or self.streams_responses  # the client or the handler may go on sending
        object.__setattr__(self, "takes", {"calls": 1, "streams": 1} if may_last else {"calls": 1})


def methods_of(services: Iterable[Service], max_message_bytes: int) -> dict[str, Method]:
    """Return all methods of the services, by path."""
    methods: dict[str, Method] = {}
    for service in services:
        for name, (handler, signature) in service.methods.items():
            path, parse = f"/{service.name}/{name}", signature.request_type.FromString
            streams_requests, streams_responses = signature.cardinality.value
            methods[path] = Method(path, handler, parse, streams_requests, streams_responses, max_message_bytes)
    return methods
