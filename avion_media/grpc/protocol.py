"""The protocol core: HTTP/2 by h2, gRPC's framing and its rules on top, and no I/O. Bytes in, events out.

This is the receiving half; it inherits the sending one (`outbound`). The driver calls `receive` with what it read and
acts on the events; it calls the ``send_*`` methods as handlers answer; after either it writes what `take_output`
returns, and calls `written`. Nothing here waits. Every method silently ignores calls that have ended: a handler
might learn of their end later.
"""

from __future__ import annotations

from collections.abc import Callable

import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes
from hyperframe.frame import WindowUpdateFrame

from avion_media.grpc.frames import COSTS, USEFUL_BYTES, Seen, reset_streams
from avion_media.grpc.lifecycle import Happening
from avion_media.grpc.limits import GrpcLimits
from avion_media.grpc.outbound import DRAIN_PING, MESSAGE_OVERHEAD_BYTES, Outbound
from avion_media.grpc.status import Code, RpcError
from avion_media.grpc.stream import CallBegun, CallGone, Event, MessageReceived, RequestEnded, Stream
from avion_media.grpc.wire_format import (
    PREFIX_BYTES,
    Assembly,
    MalformedRequest,
    Message,
    check_trailers,
    is_one_message,
    parse_request_head,
)
from avion_media.net import Account

_CREDIT_AT = 16 << 10  # window updates are sent for so many bytes at once
# A reset of a younger call costs flood units, unless its deadline has come: clients reset calls then. It also costs
# units if the deadline is shorter than any normal client sets.
_YOUNG_S, _VERY_YOUNG_S = 1.0, 0.1
# The client's clock began earlier than ours: with what its call waited there, on the way and here. So half of the time
# counts as all of it. This is no gift to attackers: a deadline of 0.1 s is as cheap for them, and can be waited for.
_DEADLINE_SHARE = 0.5
_FLOOD = "too many frames that achieve nothing"
_NO_ROOM = RpcError(Code.RESOURCE_EXHAUSTED, "too many bytes of unfinished requests; try again later")
_KNOWN_SETTINGS = frozenset(SettingCodes)


class Protocol(Outbound):
    """The server's side of one connection."""

    def __init__(
        self, limits: GrpcLimits, account: Account, max_message_bytes: Callable[[str], int], now: float
    ) -> None:
        super().__init__(limits, now)
        self._account = account
        self._max_message_bytes = max_message_bytes  # of a method's requests, by its path
        self._uncredited_bytes = 0
        self.settled = False
        """Whether the client's preface and settings have come."""
        self._is_acknowledged = False  # our first SETTINGS

    # -- Receiving

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Process bytes that were read. Must not be called after `Happening.FAILED`."""
        self._now = now
        events: list[Event] = []
        seen = self.watch.feed(data, now)
        if seen.violation is not None:
            return [self.end_connection(*seen.violation)]
        self.settled = self.settled or seen.settings
        self._charge(seen.flood)
        if self._flood.left < 0:  # before they cost anything more
            return [self.end_connection(_FLOOD)]
        self._collect()
        if seen.late_bytes:  # of DATA that h2 did not see: their window is given back by hand
            self._output += WindowUpdateFrame(0, seen.late_bytes).serialize()
        quiet, self._free_resets = len(self._output), 0
        try:
            self._handle_all(self._h2.receive_data(seen.data), events)
        except H2Error:
            events.append(self._fail())
        self._settle(seen, quiet)
        if self._flood.left < 0 and not self._failed:
            events.append(self.end_connection(_FLOOD))
        if seen.going_away and not self._failed:
            events.append(Happening.RETIRED)
        return events

    def _settle(self, seen: Seen, quiet: int) -> None:
        """Charge what only h2 knows, and remove what it should not keep."""
        self._collect()
        if len(self._output) > quiet:
            resets = sum(map(self.watch.pays_reset, reset_streams(self._output[quiet:]))) - self._free_resets
            self._charge(resets * COSTS.RESET_BY_US.flood)
        if self._h2.decoder.flood_units:
            self._charge(self._h2.decoder.flood_units)
            self._h2.decoder.flood_units = 0
        if seen.settings:
            for name in [name for name in self._h2.remote_settings if name not in _KNOWN_SETTINGS]:
                del self._h2.remote_settings[name]  # h2 keeps them, and walks all of them each time

    def _handle_all(self, arrived: list[h2.events.Event], events: list[Event]) -> None:
        # h2 has taken in the whole piece: calls that are reset further on in it cannot be answered any more.
        reset = {event.stream_id for event in arrived if isinstance(event, h2.events.StreamReset)}
        for stream_id in reset:
            self._unblock(stream_id)
        for event in arrived:
            if not reset or getattr(event, "stream_id", 0) not in reset or isinstance(event, h2.events.StreamReset):
                self._handle(event, events)
            elif isinstance(event, h2.events.DataReceived):
                self._credit_connection(event.flow_controlled_length)
            elif isinstance(event, h2.events.RequestReceived):
                self.watch.call_costs.pop(event.stream_id, None)

    def _handle(self, event: h2.events.Event, events: list[Event]) -> None:
        if isinstance(event, h2.events.DataReceived):
            self._data(event, events)
        elif isinstance(event, h2.events.RequestReceived):
            self._begin(event, events)
        elif isinstance(event, h2.events.StreamEnded):
            self._end(event.stream_id, events)
        elif isinstance(event, h2.events.WindowUpdated):
            self._window_updated(event.stream_id, events)
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self._charge(len(self._own_window) // COSTS.SETTINGS.flood_per_blocked)
            events.extend(self._serve_own(list(self._own_window)))
        elif isinstance(event, h2.events.StreamReset):
            self._reset(event.stream_id, events)
        elif isinstance(event, h2.events.TrailersReceived):
            self._trailers(event, events)
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self._is_acknowledged = True
        elif isinstance(event, h2.events.PingAckReceived) and event.ping_data == DRAIN_PING:
            events.append(Happening.ACKNOWLEDGED)

    def _window_updated(self, stream_id: int, events: list[Event]) -> None:
        if not stream_id:
            events.extend(self._serve_line())
            return
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.has_window_update:
            stream.has_window_update = True  # grpcio sends one for each call: it comes back with its call
            stream.flood_units += COSTS.WINDOW_UPDATE.flood
        events.extend(self._serve_own([stream_id]))

    def _begin(self, event: h2.events.RequestReceived, events: list[Event]) -> None:
        stream_id = event.stream_id
        units = self.watch.call_costs.pop(stream_id, 0) + len(event.headers) // COSTS.CALL.flood_per_fields
        beyond_goaway = self._last_stream_id is not None and stream_id > self._last_stream_id
        if beyond_goaway or len(self._streams) >= self._limits.max_streams:
            self._abort(stream_id, ErrorCodes.REFUSED_STREAM)
            if not self._is_acknowledged:  # the client does not know our limit yet
                self._free_resets += 1
                self._flood.refund(units)
            return
        try:
            head = parse_request_head(tuple(event.headers))
        except MalformedRequest:
            self._abort(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        stream = self._streams[stream_id] = Stream(
            stream_id, self._now, self._account, self._max_message_bytes(head.path)
        )
        stream.flood_units = units
        stream.is_gzip = head.is_gzip
        stream.reset_grace_s = min(_YOUNG_S, max(_DEADLINE_SHARE * head.timeout_s, _VERY_YOUNG_S))
        events.append(CallBegun(stream_id, head))

    def _data(self, event: h2.events.DataReceived, events: list[Event]) -> None:
        length = event.flow_controlled_length
        self._credit_connection(length)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.uncredited_bytes += length
        data = event.data
        is_idle = len(data) < USEFUL_BYTES and event.stream_ended is None
        known = len(events)
        if stream.assembly is None and is_one_message(data, stream.max_message_bytes):
            self._arrived(stream, [Message(data[PREFIX_BYTES:])], 0, events)
        elif not stream.hold(len(data)):
            self._drop(stream, _NO_ROOM, events)
        elif data:
            self._assemble(stream, data, events)
        elif stream.wanted:
            self._credit(stream)  # padding counts as well
        if is_idle and len(events) == known:  # no message is complete with it
            stream.idle_units += COSTS.IDLE_DATA.flood
            self._charge(COSTS.IDLE_DATA.flood)

    def _assemble(self, stream: Stream, data: bytes, events: list[Event]) -> None:
        if stream.assembly is None:
            stream.assembly = Assembly(stream.max_message_bytes, is_gzip=stream.is_gzip)
        try:
            messages = stream.assembly.feed(data)
        except RpcError as refusal:
            self._drop(stream, refusal, events)
            return
        if messages:
            held_bytes = sum(PREFIX_BYTES + len(message.payload) for message in messages)
            self._arrived(stream, messages, held_bytes, events)
        elif stream.wanted:
            self._credit(stream)

    def _arrived(self, stream: Stream, messages: list[Message], held_bytes: int, events: list[Event]) -> None:
        """Whole messages: from now on each counts as its payload and what an object costs."""
        size = sum(len(message.payload) + MESSAGE_OVERHEAD_BYTES for message in messages)
        if not stream.hold(size - held_bytes):
            self._drop(stream, _NO_ROOM, events)
            return
        stream.wanted = False
        if stream.idle_units:
            cost = COSTS.IDLE_DATA
            refund = sum(cost.flood + len(message.payload) // cost.flood_per_bytes for message in messages)
            self._flood.refund(min(refund, stream.idle_units))
            stream.idle_units -= min(refund, stream.idle_units)
        events.extend(MessageReceived(stream.id, message) for message in messages)

    def _end(self, stream_id: int, events: list[Event]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.remote_open = False
        if stream.assembly is not None and not stream.assembly.is_empty:
            self._drop(stream, RpcError(Code.INVALID_ARGUMENT, "the request ended within a message"), events)
            return
        events.append(RequestEnded(stream_id))

    def _trailers(self, event: h2.events.TrailersReceived, events: list[Event]) -> None:
        stream = self._streams.get(event.stream_id)
        try:
            check_trailers(tuple(event.headers))
        except MalformedRequest:
            if stream is not None:
                self._abort(stream.id, ErrorCodes.PROTOCOL_ERROR)
                self._forget(stream)
                events.append(CallGone(stream.id, Code.INTERNAL))  # what clients make of PROTOCOL_ERROR

    def _reset(self, stream_id: int, events: list[Event]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if self._now - stream.opened_at >= stream.reset_grace_s:  # a call that is reset after a while is not an attack
            self._flood.refund(COSTS.RESET.flood + stream.flood_units)
        self._forget(stream)
        events.append(CallGone(stream_id))

    # -- Flow control of requests

    def message_taken(self, stream_id: int, message: Message) -> None:
        """Record that the handler has read this message, so that it no longer counts as buffered."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.let_go(len(message.payload) + MESSAGE_OVERHEAD_BYTES)

    def want_message(self, stream_id: int) -> None:
        """Let the client send the next message, because the handler wants it."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.remote_open:
            stream.wanted = True
            self._credit(stream)

    def _credit(self, stream: Stream) -> None:
        if stream.remote_open and stream.uncredited_bytes >= _CREDIT_AT:
            self._h2.increment_flow_control_window(stream.uncredited_bytes, stream.id)
            stream.uncredited_bytes = 0

    def _credit_connection(self, length: int) -> None:
        # The connection's window is restored at once, so that a handler that does not read does not stall other calls.
        self._uncredited_bytes += length
        if self._uncredited_bytes >= _CREDIT_AT:
            self._h2.increment_flow_control_window(self._uncredited_bytes)
            self._uncredited_bytes = 0
