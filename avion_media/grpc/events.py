"""The events that the protocol core returns to its driver."""

from __future__ import annotations

from typing import NamedTuple

from avion_media.grpc.lifecycle import Happening
from avion_media.grpc.status import Code
from avion_media.grpc.wire_format import Message, RequestHead


class CallBegun(NamedTuple):
    """A request's headers, checked. `RequestHead` says whether it can be served."""

    stream_id: int
    head: RequestHead


class MessageReceived(NamedTuple):
    """One whole message of a request. It counts as held until `Protocol.message_taken`, or the end of the call."""

    stream_id: int
    message: Message


class RequestEnded(NamedTuple):
    """The client sends no more messages in this call."""

    stream_id: int


class CallGone(NamedTuple):
    """The call ended early: reset by the client (CANCELLED), or answered by the core with this code."""

    stream_id: int
    code: Code = Code.CANCELLED


class ResponseTaken(NamedTuple):
    """All output of this call has been passed to the connection."""

    stream_id: int


Event = CallBegun | MessageReceived | RequestEnded | CallGone | ResponseTaken | Happening
"""A `Happening` concerns the whole connection. After FAILED the remaining output has the GOAWAY for the client."""
