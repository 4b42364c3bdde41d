"""The protocol core: HTTP/2 by `http2`, gRPC's framing and its rules on top, and no I/O. Bytes in, events out.

This is the receiving half; it inherits the sending one (`outbound`). The driver calls `receive` with what it read and
acts on the events; it calls the ``send_*`` methods as handlers answer; after either it writes what `take_output`
returns, and calls `written`. Nothing here waits. Every method silently ignores calls that have ended: a handler
might learn of their end later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain

from trio_grpc.frames import COSTS, USEFUL_BYTES, FloodBudget, Seen
from trio_grpc.http2 import STREAMS_BEFORE_SETTINGS, ErrorCode
from trio_grpc.lifecycle import Happening
from trio_grpc.limits import GrpcLimits
from trio_grpc.net import Account
from trio_grpc.outbound import DRAIN_PING, MESSAGE_OVERHEAD_BYTES, Outbound
from trio_grpc.status import Code, Headers, RpcError
from trio_grpc.stream import CallBegun, CallGone, Event, MessageReceived, RequestEnded, Stream
from trio_grpc.wire_format import PREFIX_BYTES, Assembly, Message, is_one_message, parse_request_head

# A reset of a younger call costs flood units, unless its deadline has come: clients reset calls then. It also costs
# units if the deadline is shorter than any normal client sets.
_YOUNG_S, _VERY_YOUNG_S = 1.0, 0.1
# The client's clock began earlier than ours: with what its call waited there, on the way and here. So half of the time
# counts as all of it. This is no gift to attackers: a deadline of 0.1 s is as cheap for them, and can be waited for.
_DEADLINE_SHARE = 0.5
_FIELD_OVERHEAD_BYTES = 32  # of a header list's size (RFC 9113, 6.5.2)
_FLOOD = "too many frames that achieve nothing"
_NO_ROOM = RpcError(Code.RESOURCE_EXHAUSTED, "too many bytes of unfinished requests; try again later")


class Protocol(Outbound):
    """The server's side of one connection."""

    def __init__(
        self,
        limits: GrpcLimits,
        account: Account,
        max_message_bytes: Callable[[str], int],
        now: float,
        of_peer: FloodBudget | None = None,
        opening: int = 0,
    ) -> None:
        super().__init__(limits, now, of_peer, opening)
        self._account = account
        self._max_message_bytes = max_message_bytes  # of a method's requests, by its path
        self._begun: set[int] = set()  # calls that this piece has begun
        self.settled = False
        """Whether the client's preface and settings have come."""
        self._early_refusals = STREAMS_BEFORE_SETTINGS  # that are free, because the client does not know our limit yet

    # -- Receiving

    def receive(self, data: bytes, now: float, work: float = math.inf) -> list[Event]:
        """Process bytes that were read, or left: as `FrameWatch.feed`. Must not be called after `Happening.FAILED`."""
        self._now = now
        seen = self.watch.feed(data, work)
        if seen.violation:
            return [self.end_connection(seen.violation)]
        self._charge(seen.flood)
        if self._flood.left < 0:  # before they cost anything more
            return [self.end_connection(_FLOOD)]
        self._begun.clear()
        failure = self._session.receive(seen.frames)
        self.collect()
        self._charge_strays(seen)
        if not self._is_over and (failure is not None or self._flood.left < 0):
            self._events.append(self.end_connection(*(failure or (_FLOOD,))))
        return self._take_events()

    def _charge_strays(self, seen: Seen) -> None:
        """Charge for frames whose call is over: the library ignores them."""
        for stream_id, length in seen.of_calls:
            if stream_id not in self._streams:
                self._charge(self.watch.price_of_stray(stream_id, length, self._now))

    def headers_received(self, stream_id: int, headers: Headers) -> None:
        """See `http2.Session`, for its other methods as well."""
        cost = COSTS.CALL
        list_bytes = len(b"".join(chain.from_iterable(headers))) + _FIELD_OVERHEAD_BYTES * len(headers)
        units = len(headers) // cost.flood_per_fields + list_bytes // cost.flood_per_list_bytes
        self._charge(units)
        if stream_id in self._streams:
            return  # trailers: gRPC has no use for a request's
        units += self.watch.call_costs.pop(stream_id, 0)
        beyond_goaway = self._last_stream_id is not None and stream_id > self._last_stream_id
        if beyond_goaway or len(self._streams) >= self._limits.max_streams:
            self._abort(stream_id, ErrorCode.REFUSED_STREAM)
            if self._early_refusals:
                self._early_refusals -= 1
                self._flood.refund(units)
            else:
                self._charge(COSTS.RESET_BY_US.flood)
            return
        head = parse_request_head(headers)
        self._begun.add(stream_id)
        stream = self._streams[stream_id] = Stream(
            stream_id, self._now, self._account, self._max_message_bytes(head.path)
        )
        stream.flood_units = units
        stream.is_gzip = head.is_gzip
        stream.reset_grace_s = min(_YOUNG_S, max(_DEADLINE_SHARE * head.timeout_s, _VERY_YOUNG_S))
        self._events.append(CallBegun(stream_id, head))

    def data_received(self, stream_id: int, data: bytes, *, is_last: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self._session.consume(stream_id, len(data))
            return
        stream.uncredited_bytes += len(data)
        known = len(self._events)
        if stream.trailers is None:  # else nobody waits for it
            self._take_in(stream, data)
        if len(data) < USEFUL_BYTES and not is_last and len(self._events) == known:  # no message is complete with it
            stream.idle_units += COSTS.IDLE_DATA.flood
            self._charge(COSTS.IDLE_DATA.flood)

    def _take_in(self, stream: Stream, data: bytes) -> None:
        if stream.assembly is None and is_one_message(data, stream.max_message_bytes):
            self._arrived(stream, [Message(data[PREFIX_BYTES:])], 0)
        elif not stream.hold(len(data)):
            self._drop(stream, _NO_ROOM)
        elif data:
            self._assemble(stream, data)

    def _assemble(self, stream: Stream, data: bytes) -> None:
        if stream.assembly is None:
            stream.assembly = Assembly(stream.max_message_bytes, is_gzip=stream.is_gzip)
        try:
            messages = stream.assembly.feed(data)
        except RpcError as refusal:
            self._drop(stream, refusal)
            return
        if messages:
            self._arrived(stream, messages, sum(PREFIX_BYTES + len(message.payload) for message in messages))
        elif stream.wanted:
            self._credit(stream)

    def _arrived(self, stream: Stream, messages: list[Message], held_bytes: int) -> None:
        """Whole messages: from now on each counts as its payload and what an object costs."""
        size = 0
        for message in messages:
            size += len(message.payload) + MESSAGE_OVERHEAD_BYTES
        if not stream.hold(size - held_bytes):
            self._drop(stream, _NO_ROOM)
            return
        stream.wanted = False
        self._charge(len(messages) // COSTS.DATA.flood_per_messages)
        if stream.idle_units:
            cost = COSTS.IDLE_DATA
            refund = sum(cost.flood + len(message.payload) // cost.flood_per_bytes for message in messages)
            self._flood.refund(min(refund, stream.idle_units))
            stream.idle_units -= min(refund, stream.idle_units)
        self._events += [MessageReceived(stream.id, message) for message in messages]

    def request_ended(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.remote_open = False
        if stream.trailers is not None:
            return
        if stream.assembly is not None and not stream.assembly.is_empty:
            self._drop(stream, RpcError(Code.INVALID_ARGUMENT, "the request ended within a message"))
        else:
            self._events.append(RequestEnded(stream_id))

    def window_updated(self, stream_id: int) -> None:
        if not stream_id:
            self._progress_at = self._now
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.has_window_update:
            stream.has_window_update = True  # grpcio sends one for each call: it comes back with its call
            stream.flood_units += COSTS.WINDOW_UPDATE.flood

    def reset_received(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if self._now - stream.opened_at >= stream.reset_grace_s:  # a call that is reset after a while is not an attack
            self._flood.refund(COSTS.RESET.flood + stream.flood_units)
        self._forget(stream)
        if stream_id in self._begun:  # nobody knows of it yet
            self._events = [event for event in self._events if getattr(event, "stream_id", 0) != stream_id]
        else:
            self._events.append(CallGone(stream_id))

    def stream_closed(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        is_malformed = self.watch.call_costs.pop(stream_id, None) is not None  # there was no request
        if is_malformed or (code and stream is not None):  # reset by the library
            self._charge(COSTS.RESET_BY_US.flood)
        if code and stream is not None:
            self._forget(stream)
            self._events.append(CallGone(stream_id, Code.INTERNAL))  # what clients make of PROTOCOL_ERROR

    def settings_received(self) -> None:
        self.settled = True

    def goaway_received(self) -> None:
        self._events.append(Happening.RETIRED)

    def acknowledged(self, data: bytes) -> None:
        if data == DRAIN_PING:
            self._events.append(Happening.ACKNOWLEDGED)
        elif not data:
            self._early_refusals = 0

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
        if stream.remote_open and stream.uncredited_bytes:
            self._session.consume(stream.id, stream.uncredited_bytes)
            stream.uncredited_bytes = 0
