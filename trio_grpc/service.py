"""Services as a server binds them: the generated servicers are made of these, and the transport reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Cardinality(Enum):
    """Which sides of a call send a stream of messages."""

    UNARY_UNARY = (False, False)
    UNARY_STREAM = (False, True)
    STREAM_UNARY = (True, False)
    STREAM_STREAM = (True, True)


@dataclass(frozen=True, slots=True)
class RPCSignature:
    """What a method takes and returns."""

    cardinality: Cardinality
    request_type: Any
    response_type: Any


@dataclass(frozen=True, slots=True)
class Service:
    """The methods of one service, by name, bound to a servicer."""

    name: str
    methods: Mapping[str, tuple[Callable[..., Any], RPCSignature]]
    """By name; a handler takes the request, or an iterator of requests, and the call's context."""


class Servicer:
    """The base of generated servicers."""

    @property
    def service(self) -> Service:
        """The service with this object's methods as handlers."""
        raise NotImplementedError
