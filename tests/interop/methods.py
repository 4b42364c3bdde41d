"""The Echo service's methods for grpcio's clients."""

from __future__ import annotations

from typing import Any

from tests.interop.wire import echo_pb2 as wire

SERVICE = "avion.test.Echo"
TIMEOUT_S = 10.0
_CODING = (wire.EchoRequest.SerializeToString, wire.EchoResponse.FromString)


def say(channel: Any) -> Any:
    """Say."""
    return channel.unary_unary(f"/{SERVICE}/Say", *_CODING)


def repeat(channel: Any) -> Any:
    """Repeat."""
    return channel.unary_stream(f"/{SERVICE}/Repeat", *_CODING)


def collect(channel: Any) -> Any:
    """Collect."""
    return channel.stream_unary(f"/{SERVICE}/Collect", *_CODING)


def chat(channel: Any) -> Any:
    """Chat."""
    return channel.stream_stream(f"/{SERVICE}/Chat", *_CODING)
