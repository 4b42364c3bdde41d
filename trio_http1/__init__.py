"""An HTTP/1.1 server on h11 and Trio: one task per connection, and a deadline for every wait."""

from trio_http1.asgi import PROXIED, AsgiServer
from trio_http1.conditions import (
    CONDITIONS,
    ServerTiming,
    asked_range,
    entity_tag,
    failed_precondition,
    range_applies,
)
from trio_http1.memory import WindowMemory
from trio_http1.messages import Body, BodyLost, HttpLimits, Relayed, Request, Response
from trio_http1.server import HttpServer

__all__ = [
    "CONDITIONS",
    "PROXIED",
    "AsgiServer",
    "Body",
    "BodyLost",
    "HttpLimits",
    "HttpServer",
    "Relayed",
    "Request",
    "Response",
    "ServerTiming",
    "WindowMemory",
    "asked_range",
    "entity_tag",
    "failed_precondition",
    "range_applies",
]
