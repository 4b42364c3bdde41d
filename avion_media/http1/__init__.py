"""An HTTP/1.1 server on h11 and Trio: one task per connection, a deadline for every wait. It knows nothing of media."""

from avion_media.http1.connection import Hangups
from avion_media.http1.limits import HttpLimits
from avion_media.http1.messages import Body, BodyLost, Headers, Refused, Request, Response, check
from avion_media.http1.server import Handler, HttpServer

__all__ = [
    "Body",
    "BodyLost",
    "Handler",
    "Hangups",
    "Headers",
    "HttpLimits",
    "HttpServer",
    "Refused",
    "Request",
    "Response",
    "check",
]
