"""The sending half of the protocol core: responses within the windows and the socket's buffer, resets, GOAWAY."""

from __future__ import annotations

from trio_grpc.frames import (
    COSTS,
    DATA,
    END_STREAM,
    FRAME_HEADER_BYTES,
    GOAWAY,
    HEADERS,
    MAX_FRAME_BYTES,
    MIN_WINDOW_BYTES,
    USEFUL_BYTES,
    FloodBudget,
    FrameWatch,
    frame_header,
)
from trio_grpc.http2 import ErrorCode, Session
from trio_grpc.lifecycle import Happening
from trio_grpc.limits import GrpcLimits
from trio_grpc.status import OK_TRAILERS, Code, Headers, RpcError, trailers_of
from trio_grpc.stream import CallGone, Event, ResponseTaken, Stream
from trio_grpc.wire_format import ACCEPTED_ENCODINGS

MESSAGE_OVERHEAD_BYTES = 64  # empty messages are not free in memory
DRAIN_PING = b"draining"
RESPONSE_HEADERS: Headers = ((b":status", b"200"), (b"content-type", b"application/grpc"), ACCEPTED_ENCODINGS)
_OUTPUT_HIGH_WATER = 256 << 10  # beyond it responses wait in their streams until the socket took some
_BLOCK_SLACK_BYTES = 1024  # of a block over the list it encodes: padding, priority, sizes of the table
_MAX_STREAM_ID = 2**31 - 1
_KEEPALIVE_PING = b"keep-ali"


class Outbound:
    """What the server sends on one connection, and the calls that it has. `Protocol` adds what it receives."""

    def __init__(self, limits: GrpcLimits, now: float, of_peer: FloodBudget | None = None, opening: int = 0) -> None:
        """``opening``: the flood units that the first message restores, because something is achieved."""
        self._limits = limits
        self._now = now
        self._streams: dict[int, Stream] = {}
        self._waiting: dict[int, Stream] = {}  # those that have more to pass on to the library
        self.watch = FrameWatch(limits.max_header_list_bytes + _BLOCK_SLACK_BYTES)
        """The driver asks it where a turn ends, and whether a frame has begun."""
        self._flood = FloodBudget(limits.max_flood_units, limits.flood_units_per_s, now, of_peer)
        self._opening_units = opening
        self._progress_at = now
        self._session = Session(self, limits)
        self._output = bytearray(self._session.first_frames)
        self._queued_bytes = 0  # that the driver writes
        self._events: list[Event] = []
        self._last_stream_id: int | None = None  # of the final GOAWAY, once sent
        self._is_over = False

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
        stream = self._unanswered(stream_id)
        if stream is None:
            return
        if stream.head_sent:
            raise RuntimeError("a response was sent already")
        self._send_head(stream, more)

    def send_message(self, stream_id: int, frame: bytes) -> None:
        """Queue one framed message of the response; it waits for the windows and the socket (`pending_bytes`).

        Raises `RpcError` if its peer has too much waiting.
        """
        stream = self._unanswered(stream_id)
        if stream is None:
            return
        if not stream.hold(len(frame) + MESSAGE_OVERHEAD_BYTES):
            raise RpcError(Code.RESOURCE_EXHAUSTED, "too many responses wait to be read")
        if not stream.pending:
            stream.progress_at = self._now
            self._waiting[stream_id] = stream
        stream.pending.append(frame)
        stream.pending_bytes += len(frame)
        self._send_head(stream)

    def send_end(self, stream_id: int, error: RpcError | None = None, trailing: Headers = ()) -> None:
        """End a response after its waiting messages, with OK or an error."""
        self._end(stream_id, (OK_TRAILERS if error is None else trailers_of(error)) + trailing)

    def send_http_refusal(self, stream_id: int, headers: Headers) -> None:
        """End a request that is not gRPC's with a response of HTTP."""
        self._end(stream_id, headers, before=())

    def _end(self, stream_id: int, trailers: Headers, before: Headers = RESPONSE_HEADERS) -> None:
        stream = self._unanswered(stream_id)
        if stream is not None:
            self._end_response(stream, trailers, before)

    def _unanswered(self, stream_id: int) -> Stream | None:
        stream = self._streams.get(stream_id)
        return stream if stream is not None and stream.trailers is None else None

    def _send_head(self, stream: Stream, more: Headers = ()) -> None:
        if not stream.head_sent:
            stream.head_sent = True
            self._session.respond(stream.id, RESPONSE_HEADERS + more, is_whole=False)

    def _end_response(self, stream: Stream, trailers: Headers, before: Headers = RESPONSE_HEADERS) -> None:
        stream.trailers = trailers
        if not stream.pending:
            stream.progress_at = self._now  # else it was set when the first of its messages began to wait
        if not stream.head_sent:
            self._session.respond(stream.id, before + trailers, is_whole=True)
        elif stream.is_passed_on:
            self._session.send_trailers(stream.id, trailers)

    def _pass_on(self) -> bool:
        """Pass the next part of a response on to the library, unless the socket must take output first.

        The library has one part of each call at most: more would only wait there for the windows. The call that came
        first is served first (RFC 9218, 10).
        """
        if len(self._output) + self._queued_bytes >= _OUTPUT_HIGH_WATER:
            return False
        stream = self._waiting.pop(min(self._waiting))
        begin = stream.passed_of_first
        part = stream.pending[0][begin : begin + MAX_FRAME_BYTES]
        stream.passed_of_first += len(part)
        self._session.send_data(stream.id, part)
        if stream.trailers is not None and stream.is_passed_on:
            self._session.send_trailers(stream.id, stream.trailers)
        return True

    def _data_sent(self, stream: Stream, count: int) -> None:
        stream.pending_bytes -= count
        stream.sent_of_first += count
        stream.progress_at = self._progress_at = self._now
        size = len(stream.pending[0])
        is_whole = stream.sent_of_first == size
        if is_whole:
            stream.pending.popleft()
            stream.sent_of_first = stream.passed_of_first = 0
            stream.let_go(size + MESSAGE_OVERHEAD_BYTES)
        if is_whole or count >= MIN_WINDOW_BYTES:
            self._flood.refund(self._opening_units - COSTS.SENT.flood)
            self._opening_units = 0
        elif count < USEFUL_BYTES:
            self._charge(COSTS.SENT_LITTLE.flood)  # the client lets it out by a few bytes
        if stream.pending and stream.sent_of_first == stream.passed_of_first:
            self._waiting[stream.id] = stream
        elif not stream.pending and stream.trailers is None:
            self._events.append(ResponseTaken(stream.id))

    def _response_ended(self, stream: Stream) -> None:
        """The trailers are on their way."""
        if stream.remote_open:
            # The response is complete: the client should stop sending (RFC 9113, 8.1).
            self._abort(stream.id, ErrorCode.NO_ERROR)
        elif stream.trailers != OK_TRAILERS:
            self.watch.refused(stream.id, self._now)  # a reset may cross it: at a deadline both sides act at once
        self._flood.refund(stream.flood_units)  # only now: a call that is reset before has achieved nothing
        self._forget(stream)
        self._events.append(ResponseTaken(stream.id))

    def _drop(self, stream: Stream, refusal: RpcError) -> None:
        if stream.passed_of_first:  # no trailers may follow a part of a message
            self.cancel(stream.id)
            self._events.append(CallGone(stream.id))
            return
        self._waiting.pop(stream.id, None)
        stream.pending.clear()
        stream.pending_bytes = 0
        self._end_response(stream, trailers_of(refusal))
        self._events.append(CallGone(stream.id, refusal.code))

    def cancel(self, stream_id: int) -> None:
        """Reset a call: the client sees CANCELLED."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._abort(stream_id, ErrorCode.CANCEL)
            self._forget(stream)

    def _abort(self, stream_id: int, code: ErrorCode) -> None:
        self._session.reset(stream_id, code)
        self.watch.refused(stream_id, self._now)

    def _forget(self, stream: Stream) -> None:
        stream.release()
        self._streams.pop(stream.id, None)
        self._waiting.pop(stream.id, None)
        if stream.uncredited_bytes:
            self._session.consume(stream.id, stream.uncredited_bytes)

    # -- Output

    @property
    def output_bytes(self) -> int:
        """How much there is to write, of what was collected."""
        return len(self._output)

    def collect(self) -> int:
        """Collect what can be sent now. Return `output_bytes`."""
        while not self._is_over:
            has_passed_on = bool(self._waiting) and self._pass_on()
            frames = self._session.send()
            if frames:
                self._output += frames
                self._note_sent(frames)
            elif not has_passed_on:
                break
        return len(self._output)

    def _note_sent(self, frames: bytes) -> None:
        position = 0
        while position < len(frames):
            length, kind, flags, stream_id = frame_header(frames, position)
            position += FRAME_HEADER_BYTES + length
            stream = self._streams.get(stream_id)
            if kind == GOAWAY:  # the library has found an error
                self._events.append(self._fail())
            elif stream is not None and kind == DATA and length:
                self._data_sent(stream, length)
            elif stream is not None and kind == HEADERS and flags & END_STREAM:
                self._response_ended(stream)

    def take_output(self) -> bytes:
        """Return the output. Write all of it, then call `written`."""
        if not self.collect():
            return b""
        output = bytes(self._output)
        self._output.clear()
        self._queued_bytes += len(output)
        return output

    def written(self, now: float) -> list[Event]:
        """Continue after the socket has accepted the output."""
        self._now = now
        self._queued_bytes = 0
        if self._waiting:
            self.collect()
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # -- Time

    def reset_stalled(self, now: float) -> list[Event]:
        """Reset calls whose responses the client did not read for the write timeout, although it could."""
        self._now = now
        late = now - self._limits.write_timeout_s
        # A call with a window of its own waits for the connection's, for the socket, or for the calls before it.
        all_wait = not self._queued_bytes and self._progress_at <= late
        waiting = [each for each in self._streams.values() if each.pending or each.trailers is not None]
        overdue = [each for each in waiting if each.progress_at <= late]
        stalled = [each for each in overdue if all_wait or self._session.window(each.id) <= 0]
        for stream in stalled:
            self.cancel(stream.id)
        return [CallGone(stream.id) for stream in stalled]

    def ping(self, data: bytes = _KEEPALIVE_PING) -> None:
        """Send a ping, to check that the client is alive."""
        self.watch.acks_owed += 1
        self._session.ping(data)

    # -- The end

    def begin_drain(self) -> None:
        """Announce the end of the connection. Calls that are already on their way are still served (gRPC, "GOAWAY")."""
        self._send_goaway(_MAX_STREAM_ID)
        self.ping(DRAIN_PING)

    def finish_drain(self) -> None:
        """Announce the last call that is served. Later ones are refused, and clients retry them elsewhere."""
        if self._last_stream_id is None:
            self._last_stream_id = self.watch.highest_stream
            self._send_goaway(self._last_stream_id)

    def end_connection(self, reason: str, code: ErrorCode = ErrorCode.ENHANCE_YOUR_CALM) -> Happening:
        """End the connection at once, because the client exceeded a limit or broke the protocol."""
        self._send_goaway(self.watch.highest_stream, code, reason.encode())
        return self._fail()

    def close(self) -> None:
        """Release everything that calls still hold. After that, the output does not grow any more."""
        self._is_over = True
        for stream in self._streams.values():
            stream.release()
        self._streams.clear()
        self._waiting.clear()

    def _send_goaway(self, last_stream_id: int, code: int = 0, reason: bytes = b"") -> None:
        # Written by hand: the library would ignore calls after a GOAWAY, and they are refused here one by one.
        self.collect()
        if not self._is_over:  # else the library has sent one of its own
            payload = last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big") + reason
            self._output += len(payload).to_bytes(3, "big") + bytes((GOAWAY, 0, 0, 0, 0, 0)) + payload

    def _fail(self) -> Happening:
        self.close()
        return Happening.FAILED

    def _charge(self, units: int) -> None:
        if units:
            self._flood.charge(units, self._now)
