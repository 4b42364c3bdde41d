"""Code generated from ``trio_grpc/proto/`` by ``ops/generate-proto``; only this file is written by hand.

It is the one place that imports purerpc. purerpc 0.8.0 names an event by what h2 called it before 4.4; without the alias
its import fails on the h2 that we need. To be removed with the first purerpc that supports h2 4.4.

Its client also leaves calls waiting when the connection ends. Here they end with `anyio.EndOfStream`.
"""

from typing import Any

import h2.events

if not hasattr(h2.events, "PingAcknowledged"):
    h2.events.PingAcknowledged = h2.events.PingAckReceived

import purerpc
import purerpc.grpc_socket
from google.protobuf.descriptor_pool import DescriptorPool

transport_pool = DescriptorPool()
"""Holds gRPC's own health and reflection messages, apart from the default pool (see ``ops/generate-proto``)."""

__all__ = ["purerpc", "transport_pool"]

_read_until_the_end = purerpc.grpc_socket.GRPCSocket._reader_thread


async def _read_and_end_calls(connection: Any) -> None:
    await _read_until_the_end(connection)
    for stream in connection._streams.values():
        stream._incoming_events[0].close()


purerpc.grpc_socket.GRPCSocket._reader_thread = _read_and_end_calls
