"""Services as a server binds them: the generated servicers are made of these, and the transport reads them.

purerpc has the same four names, and its generated code is what ours is made from. Its own take handlers whose second
parameter must be called ``request`` and is not the request; here a handler takes ``request`` and ``context``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Service:
    """The methods of one service, by name, bound to a servicer."""

    name: str
    methods: dict[str, tuple[Callable[..., Any], RPCSignature]] = field(default_factory=dict)

    def add_method(self, name: str, handler: Callable[..., Any], signature: RPCSignature) -> None:
        """Bind a method. ``handler`` takes the request, or an iterator of requests, and the call's context."""
        self.methods[name] = (handler, signature)


class Servicer:
    """The base of generated servicers."""

    @property
    def service(self) -> Service:
        """The service with this object's methods as handlers."""
        raise NotImplementedError
