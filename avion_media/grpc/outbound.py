"""The sending half of the protocol core: responses within the windows and the socket's buffer, resets, GOAWAY."""

from __future__ import annotations

from itertools import takewhile

from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from hyperframe.frame import GoAwayFrame

from avion_media.grpc.frames import COSTS, MAX_FRAME_BYTES, MIN_WINDOW_BYTES, USEFUL_BYTES, FloodBudget, FrameWatch
from avion_media.grpc.h2_connection import H2Server
from avion_media.grpc.lifecycle import Happening
from avion_media.grpc.limits import GrpcLimits
from avion_media.grpc.status import OK_TRAILERS, Code, Headers, RpcError, trailers_of
from avion_media.grpc.stream import CallGone, Event, ResponseTaken, Stream
from avion_media.grpc.wire_format import ACCEPTED_ENCODINGS

MESSAGE_OVERHEAD_BYTES = 64  # empty messages are not free in memory
DRAIN_PING = b"avion-dr"
RESPONSE_HEADERS: Headers = ((b":status", b"200"), (b"content-type", b"application/grpc"), ACCEPTED_ENCODINGS)
_OUTPUT_HIGH_WATER = 256 << 10  # beyond it responses wait in their streams until the socket took some
_BLOCK_SLACK_BYTES = 1024  # of a block over the list it encodes: padding, priority, sizes of the table
_MAX_STREAM_ID = 2**31 - 1
_KEEPALIVE_PING = b"avion-ka"


class Outbound:
    """What the server sends on one connection, and the calls that it has. `Protocol` adds what it receives."""

    def __init__(self, limits: GrpcLimits, now: float) -> None:
        self._limits = limits
        self._now = now
        self.watch = FrameWatch(limits.max_header_list_bytes + _BLOCK_SLACK_BYTES)
        """The driver asks it where a turn ends, and whether a frame has begun."""
        self._flood = FloodBudget(limits.max_flood_units, limits.flood_units_per_s, now)
        self._streams: dict[int, Stream] = {}
        self._own_window: dict[int, Stream] = {}  # calls whose responses wait for their own window,
        self._line: dict[int, Stream] = {}  # and for the connection's, or the socket
        self._progress_at = now
        self._output = bytearray()
        self._queued_bytes = 0
        self._last_stream_id: int | None = None  # of the final GOAWAY, once sent
        self._failed = False
        self._free_resets = 0  # of ours in this piece that the client does not pay
        self._h2 = H2Server(limits)

    @property
    def calls(self) -> int:
        """Streams that have not ended."""
        return len(self._streams)

    def is_open(self, stream_id: int) -> bool:
        """Return whether this call has not ended: until then its client has not seen its code."""
        return stream_id in self._streams

    def pending_bytes(self, stream_id: int) -> int:
        """Bytes of responses in this call that still wait for the client to take them."""
        stream = self._streams.get(stream_id)
        return stream.pending_bytes if stream is not None else 0

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
        """Send one framed message of the response, as far as the windows allow; the rest waits (`pending_bytes`).

        Raises `RpcError` if its peer has too much waiting.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.pending and len(frame) <= min(self._room(stream), MAX_FRAME_BYTES):
            self._send_head(stream)  # the usual case: it goes out whole
            self._send_data(stream, frame)
            self._flood.refund(-COSTS.SENT.flood)
            return
        if not stream.hold(len(frame) + MESSAGE_OVERHEAD_BYTES):
            raise RpcError(Code.RESOURCE_EXHAUSTED, "too many responses wait to be read")
        self._send_head(stream)
        if not stream.pending:
            stream.progress_at = self._now
        stream.pending.append(frame)
        stream.pending_bytes += len(frame)
        self._send_pending(stream)

    def send_end(self, stream_id: int, error: RpcError | None = None, trailing: Headers = ()) -> None:
        """End a response after its waiting messages, with OK or an error."""
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
            stream.head_sent, stream.trailers = True, headers  # its only headers
            self._finish(stream)

    def _send_head(self, stream: Stream, more: Headers = ()) -> None:
        if not stream.head_sent:
            stream.head_sent = True
            self._h2.send_headers(stream.id, RESPONSE_HEADERS + more if more else RESPONSE_HEADERS)

    def _room(self, stream: Stream) -> int:
        """How much of this call can be sent now."""
        return min(self._h2.local_flow_control_window(stream.id), _OUTPUT_HIGH_WATER - self._queued_bytes)

    def _send_pending(self, stream: Stream) -> bool:
        """Send as much as the windows and the socket take; return whether that was everything."""
        while stream.pending:
            frame, begin = stream.pending[0], stream.sent_of_first
            chunk = frame[begin : begin + max(min(self._room(stream), self._h2.max_outbound_frame_size), 0)]
            if not chunk:
                self._unblock(stream.id)  # then at the end of the line again, if it was served just now
                waits_for_own = self._connection_room() > 0
                (self._own_window if waits_for_own else self._line)[stream.id] = stream
                return False
            self._send_data(stream, chunk)
            stream.pending_bytes -= len(chunk)
            stream.sent_of_first += len(chunk)
            is_whole = stream.sent_of_first == len(frame)
            if is_whole:
                stream.pending.popleft()
                stream.sent_of_first = 0
                stream.let_go(len(frame) + MESSAGE_OVERHEAD_BYTES)
            if is_whole or len(chunk) >= MIN_WINDOW_BYTES:
                self._flood.refund(-COSTS.SENT.flood)
            elif len(chunk) < USEFUL_BYTES and not self._h2.local_flow_control_window(stream.id):
                self._charge(COSTS.SENT_LITTLE.flood)  # the client lets it out by a few bytes
        self._unblock(stream.id)
        if stream.trailers is not None:
            self._finish(stream)
        return True

    def _send_data(self, stream: Stream, data: bytes) -> None:
        self._h2.send_data(stream.id, data)
        self._queued_bytes += len(data)
        stream.progress_at = self._progress_at = self._now

    def _unblock(self, stream_id: int) -> None:
        self._own_window.pop(stream_id, None)
        self._line.pop(stream_id, None)

    def _connection_room(self) -> int:
        return min(self._h2.outbound_flow_control_window, _OUTPUT_HIGH_WATER - self._queued_bytes)

    def _serve_line(self) -> list[Event]:
        """First come, first served, until the connection has no room any more. Touches no other call."""
        self._progress_at = self._now
        served = takewhile(lambda _: self._connection_room() > 0, list(self._line.values()))
        return [ResponseTaken(stream.id) for stream in served if self._send_pending(stream)]

    def _serve_own(self, stream_ids: list[int]) -> list[Event]:
        streams = [self._own_window[stream_id] for stream_id in stream_ids if stream_id in self._own_window]
        return [ResponseTaken(stream.id) for stream in streams if self._send_pending(stream)]

    def _finish(self, stream: Stream) -> None:
        trailers = stream.trailers or OK_TRAILERS
        self._h2.send_headers(stream.id, trailers if stream.head_sent else RESPONSE_HEADERS + trailers, end_stream=True)
        if stream.remote_open:
            # The response is complete: the client should stop sending (RFC 9113, 8.1).
            self._abort(stream.id, ErrorCodes.NO_ERROR)
            self._free_resets += 1
        elif stream.trailers is not OK_TRAILERS:
            self.watch.refused(stream.id, self._now)  # a reset may cross it: at a deadline both sides act at once
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
        self.watch.refused(stream_id, self._now)

    def _forget(self, stream: Stream) -> None:
        stream.release()
        self._streams.pop(stream.id, None)
        self._unblock(stream.id)

    # -- Output

    @property
    def output_bytes(self) -> int:
        """How much there is to write."""
        self._collect()
        return len(self._output)

    def take_output(self) -> bytes:
        """Return the output. Write all of it, then call `written`."""
        self._collect()
        output = bytes(self._output)
        self._output.clear()
        return output

    def written(self, now: float) -> list[Event]:
        """Continue after the socket has accepted the output."""
        self._now = now
        self._queued_bytes = 0
        return self._serve_line() if self._line else []

    def _collect(self) -> None:
        self._output += self._h2.data_to_send()

    # -- Time

    def reset_stalled(self, now: float) -> list[Event]:
        """Reset calls whose responses the client did not read for the write timeout, although it could."""
        self._now = now
        late = now - self._limits.write_timeout_s
        stalled = [stream for stream in self._own_window.values() if stream.progress_at <= late]
        if not self._queued_bytes and self._progress_at <= late:  # else the socket or the calls before them are slow
            stalled += [stream for stream in self._line.values() if stream.progress_at <= late]
        for stream in stalled:
            self.cancel(stream.id)
        return [CallGone(stream.id) for stream in stalled]

    def ping(self, data: bytes = _KEEPALIVE_PING) -> None:
        """Send a ping, to check that the client is alive."""
        self.watch.acks_owed += 1
        self._h2.ping(data)

    # -- The end

    def begin_drain(self) -> None:
        """Announce the end of the connection. Calls that are already on their way are still served (gRPC, "GOAWAY")."""
        self._send_goaway(_MAX_STREAM_ID)
        self.ping(DRAIN_PING)

    def finish_drain(self) -> None:
        """Announce the last call that is served. Later ones are refused, and clients retry them elsewhere."""
        if self._last_stream_id is None and not self._failed:
            self._last_stream_id = self._h2.highest_inbound_stream_id
            self._send_goaway(self._last_stream_id)

    def end_connection(self, reason: str, code: ErrorCodes = ErrorCodes.ENHANCE_YOUR_CALM) -> Happening:
        """End the connection at once, because the client exceeded a limit or broke the protocol."""
        self._h2.close_connection(code, additional_data=reason.encode())
        return self._fail()

    def close(self) -> None:
        """Release everything that calls still hold. Called once, after the end of the connection."""
        for stream in self._streams.values():
            stream.release()
        self._streams.clear()
        self._own_window.clear()
        self._line.clear()

    def _send_goaway(self, last_stream_id: int) -> None:
        # Written by hand: h2 considers a connection closed after a GOAWAY, and would not finish calls in flight.
        self._collect()
        self._output += GoAwayFrame(0, last_stream_id=last_stream_id, error_code=ErrorCodes.NO_ERROR).serialize()

    def _fail(self) -> Happening:
        self._failed = True
        self.close()
        return Happening.FAILED

    def _charge(self, units: int) -> None:
        if units:
            self._flood.charge(units, self._now)
