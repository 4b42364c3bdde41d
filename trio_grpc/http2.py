"""HTTP/2 for a server, by the library ngh2: frames, HPACK, the states of streams, flow control. No I/O.

Of the other modules only `client` uses the library; decision 0001 says why it is this one. What it finds in the bytes
goes to a receiver, which may answer at once, but must not call `Session.receive` or `Session.send` then.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import ngh2
from ngh2 import DataReceived, ErrorCode, RequestReceived, Setting, StreamClosed, WindowUpdated

from trio_grpc.frames import STREAM_WINDOW
from trio_grpc.limits import GrpcLimits
from trio_grpc.status import Headers

__all__ = ["STREAMS_BEFORE_SETTINGS", "ErrorCode", "Session"]

STREAMS_BEFORE_SETTINGS: Final = 200  # clients learn our limit only from the first SETTINGS
_UNLIMITED = 1 << 31, 1 << 31  # `frames.COSTS` has the prices of these frames
_HAS_ENDED = ngh2.StreamProtocolError, ngh2.ConnectionStateError  # the stream or the connection: an event says so


@lru_cache
def _configuration(max_header_list_bytes: int) -> ngh2.Configuration:
    return ngh2.Configuration(
        auto_window_update=False,
        stream_reset_rate_limit=_UNLIMITED,
        glitch_rate_limit=_UNLIMITED,
        max_continuations=_UNLIMITED[0],
        max_inbound_header_list_size=max_header_list_bytes,
        max_inbound_header_count=max_header_list_bytes,  # the size is the limit
    )


class Session:
    """The server's side of one connection.

    It calls these methods of the receiver, in the order of the frames:

    - ``headers_received(stream_id, headers)``: a request, or trailers of one. They conform to RFC 9113, 8.
    - ``data_received(stream_id, data, is_last=…)``: a whole DATA frame, in the windows until `consume`.
    - ``request_ended``, ``reset_received``, ``window_updated(stream_id)``: the last with 0 for the connection.
    - ``settings_received()``, ``goaway_received()``: from the client.
    - ``acknowledged(data)``: the client has answered a ping with this data; empty data: it knows our settings.
    - ``stream_closed(stream_id, code)``: a stream has ended. A code other than 0 says that it was reset.
    """

    def __init__(self, receiver: Any, limits: GrpcLimits) -> None:
        self._receiver = receiver
        self._http = ngh2.Connection(ngh2.Role.SERVER, _configuration(limits.max_header_list_bytes))
        # The library ends a connection with more streams than it knows of. So it gets a higher number than the client,
        # and the receiver refuses the surplus.
        tolerated = limits.max_streams + STREAMS_BEFORE_SETTINGS
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: tolerated,
            Setting.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
            Setting.NO_RFC7540_PRIORITIES: 1,
        }
        self._http.initiate_connection(settings)
        # Half of it for what handlers have not read in any stream, so that they stall no other calls. The library gives
        # the other half back at once.
        self._http.set_local_window_size(2 * tolerated * STREAM_WINDOW)
        known, announced = (b"\0\3" + each.to_bytes(4, "big") for each in (tolerated, limits.max_streams))
        self.first_frames = self._http.data_to_send().replace(known, announced, 1)

    def receive(self, frames: bytes) -> tuple[str, ErrorCode] | None:
        """Take in whole frames. Return why the connection must end at once, if it must.

        If the library finds an error of the connection itself, the next frame to `send` is its GOAWAY. After a GOAWAY
        of the client, frames are ignored once no stream is left.
        """
        failure = None
        try:
            self._http.receive_data(frames)
        except ngh2.ConnectionStateError:
            pass  # no stream was left after the client's GOAWAY
        except (ngh2.DenialOfServiceError, ngh2.InternalError) as error:
            failure = str(error), ErrorCode.ENHANCE_YOUR_CALM
        except ngh2.ConnectionProtocolError:
            failure = "not the preface of HTTP/2", ErrorCode.PROTOCOL_ERROR
        self._report()
        return failure

    def send(self) -> bytes:
        """Return frames to write; empty if there are none, or none that the windows allow."""
        try:
            if not self._http.want_write:
                return b""
            frames = self._http.data_to_send()
        except ngh2.ConnectionStateError:
            return b""
        self._report()
        return frames

    def _report(self) -> None:
        receiver = self._receiver
        for event in self._http.events():
            if isinstance(event, RequestReceived):
                receiver.headers_received(event.stream_id, event.headers)
                if event.end_stream:
                    receiver.request_ended(event.stream_id)
            elif isinstance(event, DataReceived):
                receiver.data_received(event.stream_id, event.data, is_last=event.end_stream)
                if event.end_stream:
                    receiver.request_ended(event.stream_id)
            elif isinstance(event, WindowUpdated):
                receiver.window_updated(event.stream_id)
            elif isinstance(event, StreamClosed):
                receiver.stream_closed(event.stream_id, event.error_code)
            elif isinstance(event, ngh2.StreamReset):
                receiver.reset_received(event.stream_id)
            elif isinstance(event, ngh2.TrailersReceived):
                receiver.headers_received(event.stream_id, event.headers)
                receiver.request_ended(event.stream_id)
            elif isinstance(event, ngh2.PingAcknowledged):
                receiver.acknowledged(event.opaque_data)
            elif isinstance(event, ngh2.SettingsAcknowledged):
                receiver.acknowledged(b"")
            elif isinstance(event, ngh2.SettingsReceived):
                receiver.settings_received()
            elif isinstance(event, ngh2.GoAwayReceived):
                receiver.goaway_received()

    def respond(self, stream_id: int, headers: Headers, *, is_whole: bool) -> None:
        """Begin a response, or send one that has only headers."""
        try:
            self._http.send_response(stream_id, headers, end_stream=is_whole)
        except _HAS_ENDED:
            pass

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Send more of a response, once the windows allow."""
        try:
            self._http.send_data(stream_id, data)
        except _HAS_ENDED:
            pass

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """End a response after its data."""
        try:
            self._http.send_trailers(stream_id, trailers)
        except _HAS_ENDED:
            pass

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream. What it still had to send is dropped."""
        try:
            self._http.reset_stream(stream_id, code)
        except _HAS_ENDED:
            pass

    def ping(self, data: bytes) -> None:
        """Send a ping of eight bytes."""
        try:
            self._http.ping(data)
        except _HAS_ENDED:
            pass

    def consume(self, stream_id: int, count: int) -> None:
        """Give the client back so much of the windows, once it is half of them. The stream may have ended."""
        try:
            self._http.acknowledge_received_data(count, stream_id)
        except _HAS_ENDED:
            pass

    def window(self, stream_id: int) -> int:
        """Return how much can be sent on a stream, as far as its own window allows."""
        return self._http.stream_remote_window_size(stream_id)
