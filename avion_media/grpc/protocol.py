"""The protocol core: HTTP/2 by h2, gRPC's framing and its rules on top, and no I/O. Bytes in, events out.

The driver calls `receive` with what it read and acts on the events; it calls the ``send_*`` methods as handlers
answer; after either it writes what `take_output` returns, and calls `written`. Nothing here waits.
Calls that are gone are silently ignored by every method: a handler need not know in time.
"""

from __future__ import annotations

from collections.abc import Callable

import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, StreamClosedError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, WindowUpdateFrame

from avion_media.grpc.events import (
    CallBegun,
    CallGone,
    ConnectionFailed,
    Event,
    GoAwayAcknowledged,
    MessageReceived,
    PeerGoAway,
    RequestEnded,
    ResponseTaken,
)
from avion_media.grpc.frames import (
    COSTS,
    MAX_FRAME_BYTES,
    MIN_WINDOW_BYTES,
    USEFUL_BYTES,
    FloodBudget,
    FrameWatch,
    Seen,
    reset_streams,
)
from avion_media.grpc.h2_connection import open_h2
from avion_media.grpc.limits import GrpcLimits
from avion_media.grpc.status import OK_TRAILERS, Code, Headers, RpcError, trailers_of
from avion_media.grpc.stream import Pending, Stream
from avion_media.grpc.wire_format import (
    ACCEPTED_ENCODINGS,
    PREFIX_BYTES,
    Assembly,
    MalformedRequest,
    Message,
    check_trailers,
    is_one_message,
    parse_request_head,
)
from avion_media.net import Account

RESPONSE_HEADERS: Headers = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    ACCEPTED_ENCODINGS,
)
_CREDIT_AT = 16 << 10  # window updates are sent for so many bytes at once
_OUTPUT_HIGH_WATER = 256 << 10  # beyond it responses wait in their streams until the socket took some
_BLOCK_SLACK_BYTES = 1024  # of a block over the list it encodes: padding, priority, sizes of the table
_MAX_STREAM_ID = 2**31 - 1
_MESSAGE_OVERHEAD_BYTES = 64  # empty messages are not free in memory
# A reset of a younger call is a nuisance, unless its deadline has come: clients reset calls then. Those of a deadline
# that no honest client sets are nuisances all the same.
_YOUNG_S, _VERY_YOUNG_S = 1.0, 0.1
_DEADLINE_SHARE = (
    0.5  # the client's clock began earlier than ours: with what its call waited there, on the way and here
)
_FLOOD = "too many frames that achieve nothing"
_KNOWN_SETTINGS = frozenset(SettingCodes)
_DRAIN_PING = b"avion-dr"
_KEEPALIVE_PING = b"avion-ka"


class Protocol:
    """The server's side of one connection."""

    def __init__(
        self, limits: GrpcLimits, account: Account, max_message_bytes: Callable[[str], int], now: float
    ) -> None:
        self._limits = limits
        self._account = account
        self._max_message_bytes = max_message_bytes  # of a method's requests, by its path
        self._now = now
        self._watch = FrameWatch(limits.max_header_list_bytes + _BLOCK_SLACK_BYTES)
        self._flood = FloodBudget(limits.max_flood_units, limits.flood_units_per_s, now)
        self._streams: dict[int, Stream] = {}
        # Calls whose responses wait: for a window of their own, or in line for the connection's window and the socket.
        self._own_window: dict[int, Stream] = {}
        self._line: dict[int, Stream] = {}
        self._progress_at = now
        self._output = bytearray()
        self._queued_bytes = 0
        self._uncredited_bytes = 0
        self._last_stream_id: int | None = None  # of the final GOAWAY, once sent
        self._failed = False
        self.settled = False
        """Whether the client's preface and settings have come."""
        self._is_acknowledged = False  # our first SETTINGS
        self._free_resets = 0  # of ours in this piece that the client does not pay
        self._h2, self._decoder = open_h2(limits)

    # -- What the driver looks at

    @property
    def calls(self) -> int:
        """Streams that have not ended."""
        return len(self._streams)

    @property
    def mid_frame(self) -> bool:
        """Whether the client owes the rest of something it has begun: the preface, a frame, a header block."""
        return not self.settled or self._watch.mid_frame

    @property
    def frames_begun(self) -> int:
        """Changes whenever the client begins something new (see `mid_frame`)."""
        return self._watch.begun

    def end_of_turn(self, data: bytes, begin: int, work: int) -> int:
        """Where to cut ``data``, so that `receive` has so much work with it (see `frames`): at the end of a frame."""
        return self._watch.end_of_turn(data, begin, work)

    def is_open(self, stream_id: int) -> bool:
        """Return whether this call has not ended: until then its client has not seen its code."""
        return stream_id in self._streams

    def pending_bytes(self, stream_id: int) -> int:
        """Bytes of responses in this call that still wait for the client to take them."""
        stream = self._streams.get(stream_id)
        return stream.pending_bytes if stream is not None else 0

    # -- Receiving

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take in what was read. After a `ConnectionFailed` nothing more may be fed."""
        self._now = now
        events: list[Event] = []
        seen = self._watch.feed(data, now)
        if seen.violation is not None:
            return [self._end_connection(*seen.violation)]
        self.settled = self.settled or seen.settings
        self._charge(seen.flood)
        if self._flood.is_overdrawn():  # before they have cost anything more
            return [self._end_connection(ErrorCodes.ENHANCE_YOUR_CALM, _FLOOD)]
        self._credit_late(seen.late_bytes)
        self._collect()
        quiet, self._free_resets = len(self._output), 0
        try:
            self._handle_all(self._h2.receive_data(seen.data), events)
        except H2Error as error:
            events.append(self._fail(f"{type(error).__name__}: {error}"))
        self._settle(seen, quiet)
        if self._flood.is_overdrawn() and not self._failed:
            events.append(self._end_connection(ErrorCodes.ENHANCE_YOUR_CALM, _FLOOD))
        if seen.going_away and not self._failed:
            events.append(PeerGoAway())
        return events

    def _settle(self, seen: Seen, quiet: int) -> None:
        """Charge what only h2 knew, and forget what it should not keep."""
        self._collect()
        if len(self._output) > quiet:
            resets = sum(map(self._watch.pays_reset, reset_streams(self._output[quiet:]))) - self._free_resets
            self._charge(resets * COSTS.RESET_BY_US.flood)
        if self._decoder.flood_units:
            self._charge(self._decoder.flood_units)
            self._decoder.flood_units = 0
        if seen.settings:
            for name in [name for name in self._h2.remote_settings if name not in _KNOWN_SETTINGS]:
                del self._h2.remote_settings[name]  # h2 keeps them, and walks all of them each time

    def _charge(self, units: int) -> None:
        if units:
            self._flood.charge(units, self._now)

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
                self._watch.call_costs.pop(event.stream_id, None)

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
        elif isinstance(event, h2.events.PingAckReceived) and event.ping_data == _DRAIN_PING:
            events.append(GoAwayAcknowledged())

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
        units = self._watch.call_costs.pop(stream_id, 0) + len(event.headers) // COSTS.CALL.flood_per_fields
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
            self._drop(stream, _no_room(), events)
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
        size = sum(len(message.payload) + _MESSAGE_OVERHEAD_BYTES for message in messages)
        if not stream.hold(size - held_bytes):
            self._drop(stream, _no_room(), events)
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
        if self._now - stream.opened_at >= stream.reset_grace_s:  # a call given up after a while is no attack
            self._flood.refund(COSTS.RESET.flood + stream.flood_units)
        self._forget(stream)
        events.append(CallGone(stream_id))

    # -- Flow control of requests

    def message_taken(self, stream_id: int, message: Message) -> None:
        """The handler of this call has got this message: it no longer counts as waiting in the server's memory."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.let_go(len(message.payload) + _MESSAGE_OVERHEAD_BYTES)

    def want_message(self, stream_id: int) -> None:
        """The handler of this call wants its next message: let the client send it."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.remote_open:
            stream.wanted = True
            self._credit(stream)

    def _credit(self, stream: Stream) -> None:
        if stream.remote_open and stream.uncredited_bytes >= _CREDIT_AT:
            self._h2.increment_flow_control_window(stream.uncredited_bytes, stream.id)
            stream.uncredited_bytes = 0

    def _credit_connection(self, length: int) -> None:
        # The connection's window is given back at once: a handler that does not read must not stall other calls.
        self._uncredited_bytes += length
        if self._uncredited_bytes >= _CREDIT_AT:
            self._h2.increment_flow_control_window(self._uncredited_bytes)
            self._uncredited_bytes = 0

    def _credit_late(self, length: int) -> None:
        """Give back the window of DATA that h2 never saw: by hand, since it is open for h2."""
        if length:
            self._collect()
            self._output += WindowUpdateFrame(0, length).serialize()

    # -- Answering

    def send_head(self, stream_id: int, more: Headers = ()) -> None:
        """Send the headers of a response, with ``more`` of them. Raises RuntimeError if they were sent already."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.head_sent:
            raise RuntimeError("a response was sent already")
        self._send_head(stream, more)

    def send_message(self, stream_id: int, frame: bytes) -> None:
        """Send one framed message of the response, as far as the client takes it; the rest waits (`pending_bytes`).

        Raises `RpcError` if its peer may not have so much waiting.
        """
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._enqueue(stream, frame)
            self._send_pending(stream)

    def send_end(self, stream_id: int, error: RpcError | None = None, trailing: Headers = ()) -> None:
        """End a response, after what is still waiting: OK, or with an error."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.trailers = OK_TRAILERS if error is None else trailers_of(error)
        if trailing:
            stream.trailers += trailing
        if not stream.pending_bytes:
            self._finish(stream)

    def send_http_refusal(self, stream_id: int, headers: Headers) -> None:
        """End a request that is not gRPC's with a response of HTTP."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._send_end(stream, headers)

    def _send_head(self, stream: Stream, more: Headers = ()) -> None:
        if not stream.head_sent:
            stream.head_sent = True
            self._h2.send_headers(stream.id, RESPONSE_HEADERS + more if more else RESPONSE_HEADERS)

    def _enqueue(self, stream: Stream, frame: bytes) -> None:
        if not stream.pending and len(frame) <= min(self._room(stream), MAX_FRAME_BYTES):
            self._send_head(stream)  # the usual case: it goes out whole
            self._send_data(stream, frame)
            self._flood.refund(-COSTS.SENT.flood)
            return
        if not stream.hold(len(frame) + _MESSAGE_OVERHEAD_BYTES):
            raise RpcError(Code.RESOURCE_EXHAUSTED, "too many responses wait to be read")
        self._send_head(stream)
        if not stream.pending:
            stream.progress_at = self._now
        stream.pending.append(Pending(memoryview(frame), len(frame) + _MESSAGE_OVERHEAD_BYTES))
        stream.pending_bytes += len(frame)

    def _room(self, stream: Stream) -> int:
        """How much of this call can be sent now."""
        return min(self._h2.local_flow_control_window(stream.id), _OUTPUT_HIGH_WATER - self._queued_bytes)

    def _send_pending(self, stream: Stream) -> bool:
        """Send as much as the windows and the socket take; return whether that was everything."""
        while stream.pending:
            message = stream.pending[0]
            chunk = message.rest[: max(min(self._room(stream), self._h2.max_outbound_frame_size), 0)]
            if not chunk:
                self._wait(stream)
                return False
            self._send_data(stream, bytes(chunk))
            stream.pending_bytes -= len(chunk)
            if len(chunk) == len(message.rest):
                stream.pending.popleft()
                stream.let_go(message.held_bytes)
                self._flood.refund(-COSTS.SENT.flood)
            else:
                message.rest = message.rest[len(chunk) :]
                self._charge_for_part(stream, len(chunk))
        self._unblock(stream.id)
        if stream.trailers is not None:
            self._finish(stream)
        return True

    def _send_data(self, stream: Stream, data: bytes) -> None:
        self._h2.send_data(stream.id, data)
        self._queued_bytes += len(data)
        stream.progress_at = self._progress_at = self._now

    def _charge_for_part(self, stream: Stream, sent_bytes: int) -> None:
        """A part of a message was sent: progress, unless the client lets it out by a few bytes."""
        if sent_bytes >= MIN_WINDOW_BYTES:
            self._flood.refund(-COSTS.SENT.flood)
        elif sent_bytes < USEFUL_BYTES and not self._h2.local_flow_control_window(stream.id):
            self._charge(COSTS.SENT_LITTLE.flood)

    def _wait(self, stream: Stream) -> None:
        """Queue a call where its response has to wait: at the end of the line again, if it was served just now."""
        self._unblock(stream.id)
        waits_for_own = self._connection_room() > 0
        (self._own_window if waits_for_own else self._line)[stream.id] = stream

    def _unblock(self, stream_id: int) -> None:
        self._own_window.pop(stream_id, None)
        self._line.pop(stream_id, None)

    def _connection_room(self) -> int:
        return min(self._h2.outbound_flow_control_window, _OUTPUT_HIGH_WATER - self._queued_bytes)

    def _serve_line(self) -> list[Event]:
        """First come, first served, until the connection has no room any more. Touches nobody else."""
        self._progress_at = self._now
        done: list[Event] = []
        for stream in list(self._line.values()):
            if self._connection_room() <= 0:
                break
            if self._send_pending(stream):
                done.append(ResponseTaken(stream.id))
        return done

    def _serve_own(self, stream_ids: list[int]) -> list[Event]:
        streams = [self._own_window[stream_id] for stream_id in stream_ids if stream_id in self._own_window]
        return [ResponseTaken(stream.id) for stream in streams if self._send_pending(stream)]

    def _finish(self, stream: Stream) -> None:
        trailers = stream.trailers or OK_TRAILERS
        self._send_end(stream, trailers if stream.head_sent else RESPONSE_HEADERS + trailers)

    def _send_end(self, stream: Stream, headers: Headers) -> None:
        self._h2.send_headers(stream.id, headers, end_stream=True)
        if stream.remote_open:
            # The response is complete: the client should stop sending (RFC 9113, 8.1).
            self._abort(stream.id, ErrorCodes.NO_ERROR)
            self._free_resets += 1
        elif stream.trailers is not OK_TRAILERS:
            self._watch.refused(stream.id, self._now)  # a reset may cross it: at a deadline both sides act at once
        self._flood.refund(stream.flood_units)  # only now: a call that is reset before has achieved nothing
        self._forget(stream)

    def _drop(self, stream: Stream, refusal: RpcError, events: list[Event]) -> None:
        stream.pending.clear()
        stream.pending_bytes = 0
        self._unblock(stream.id)
        self.send_end(stream.id, refusal)
        events.append(CallGone(stream.id, refusal.code))

    def cancel(self, stream_id: int) -> None:
        """Reset a call: the client sees CANCELLED."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._abort(stream_id, ErrorCodes.CANCEL)
            self._forget(stream)

    def _abort(self, stream_id: int, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(stream_id, code)
        except StreamClosedError:
            pass  # the client's end came in the same piece: nothing is left to reset
        self._watch.refused(stream_id, self._now)

    def _forget(self, stream: Stream) -> None:
        stream.release()
        self._streams.pop(stream.id, None)
        self._unblock(stream.id)

    # -- Output

    @property
    def has_output(self) -> bool:
        """Whether there is something to write."""
        self._collect()
        return bool(self._output)

    @property
    def output_bytes(self) -> int:
        """How much there is to write."""
        self._collect()
        return len(self._output)

    def take_output(self) -> bytes:
        """What is to be written now, in full, before `written` is called."""
        self._collect()
        output = bytes(self._output)
        self._output.clear()
        return output

    def written(self, now: float) -> list[Event]:
        """The socket took the output: send more of what waits."""
        self._now = now
        self._queued_bytes = 0
        return self._serve_line() if self._line else []

    def _collect(self) -> None:
        self._output += self._h2.data_to_send()

    # -- Time

    def reset_stalled(self, now: float) -> list[Event]:
        """Reset calls of which the client has taken nothing for the write timeout, though it could have."""
        self._now = now
        late = now - self._limits.write_timeout_s
        stalled = [stream for stream in self._own_window.values() if stream.progress_at <= late]
        if not self._queued_bytes and self._progress_at <= late:  # else the socket or the calls before them are slow
            stalled += [stream for stream in self._line.values() if stream.progress_at <= late]
        for stream in stalled:
            self.cancel(stream.id)
        return [CallGone(stream.id) for stream in stalled]

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        if not self._failed:
            self._ping(_KEEPALIVE_PING)

    def _ping(self, data: bytes) -> None:
        self._watch.acks_owed += 1
        self._h2.ping(data)

    # -- The end

    def begin_drain(self) -> None:
        """Say that the connection will end. Calls that cross this on the wire are still served (gRPC, "GOAWAY")."""
        if not self._failed:
            self._send_goaway(_MAX_STREAM_ID)
            self._ping(_DRAIN_PING)

    def finish_drain(self) -> None:
        """Name the last call that is served; later ones are refused, and clients send them elsewhere."""
        if self._last_stream_id is None and not self._failed:
            self._last_stream_id = self._h2.highest_inbound_stream_id
            self._send_goaway(self._last_stream_id)

    def give_up(self, reason: str) -> None:
        """End the connection at once, because the client broke a bound of ours."""
        if not self._failed:
            self._end_connection(ErrorCodes.ENHANCE_YOUR_CALM, reason)

    def _end_connection(self, code: ErrorCodes, reason: str) -> ConnectionFailed:
        self._h2.close_connection(code, additional_data=reason.encode())
        return self._fail(reason)

    def close(self) -> None:
        """Give back what the calls still hold. To be called once, when the connection is gone."""
        for stream in self._streams.values():
            stream.release()
        self._streams.clear()
        self._own_window.clear()
        self._line.clear()

    def _send_goaway(self, last_stream_id: int) -> None:
        # By hand: h2 considers a connection closed after a GOAWAY, and would not let calls in flight finish.
        self._collect()
        self._output += GoAwayFrame(0, last_stream_id=last_stream_id, error_code=ErrorCodes.NO_ERROR).serialize()

    def _fail(self, reason: str) -> ConnectionFailed:
        self._failed = True
        self.close()
        return ConnectionFailed(reason)


def _no_room() -> RpcError:
    return RpcError(Code.RESOURCE_EXHAUSTED, "too many bytes of unfinished requests; try again later")
