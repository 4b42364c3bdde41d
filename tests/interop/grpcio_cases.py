"""gRPC's interoperability cases by grpcio's synchronous client: a function for each case, which raises if it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.interop.wire.grpc import testing_pb2 as wire

_TIMEOUT_S = 10.0
_INITIAL = ("x-grpc-test-echo-initial", "test_initial_metadata_value")
_TRAILING = ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab")
_SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
_INPUT_SIZES = (27182, 8, 1828, 45904)
_OUTPUT_SIZES = (31415, 9, 2653, 58979)

Calls = Callable[..., Any]


def _method(channel: grpc.Channel, name: str, request: Any, response: Any, kind: str = "unary_unary") -> Calls:
    path = f"/grpc.testing.TestService/{name}"
    return getattr(channel, kind)(path, request.SerializeToString, response.FromString)  # type: ignore[no-any-return]


def _unary(channel: grpc.Channel) -> Calls:
    return _method(channel, "UnaryCall", wire.SimpleRequest, wire.SimpleResponse)


def _duplex(channel: grpc.Channel) -> Calls:
    messages = wire.StreamingOutputCallRequest, wire.StreamingOutputCallResponse
    return _method(channel, "FullDuplexCall", *messages, kind="stream_stream")


def _payload(size: int) -> wire.Payload:
    return wire.Payload(body=bytes(size))


def _asking(sizes: Sequence[int], own_size: int = 0, *, compressed: bool = False) -> wire.StreamingOutputCallRequest:
    parameters = [
        wire.ResponseParameters(size=size, compressed=wire.Flag(value=compressed and not number % 2))
        for number, size in enumerate(sizes)
    ]
    return wire.StreamingOutputCallRequest(response_parameters=parameters, payload=_payload(own_size))


def _expect(code: grpc.StatusCode, call: Callable[[], Any]) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    assert error.code() is code
    return error


def empty_unary(channel: grpc.Channel) -> None:
    """Nothing for nothing."""
    _method(channel, "EmptyCall", wire.Empty, wire.Empty)(wire.Empty(), timeout=_TIMEOUT_S)


def large_unary(channel: grpc.Channel, *, compressed: bool = False, **options: Any) -> None:
    """271,828 bytes one way and 314,159 the other."""
    request = wire.SimpleRequest(response_size=314159, payload=_payload(271828))
    request.response_compressed.value = compressed
    response = _unary(channel)(request, timeout=_TIMEOUT_S, **options)
    assert response.payload.body == bytes(314159)


def client_compressed_unary(channel: grpc.Channel) -> None:
    """The request is compressed."""
    large_unary(channel, compression=grpc.Compression.Gzip)


def server_compressed_unary(channel: grpc.Channel) -> None:
    """The response is compressed."""
    large_unary(channel, compressed=True)


def client_streaming(channel: grpc.Channel, **options: Any) -> None:
    """Four messages, one response."""
    messages = wire.StreamingInputCallRequest, wire.StreamingInputCallResponse
    requests = [wire.StreamingInputCallRequest(payload=_payload(size)) for size in _INPUT_SIZES]
    method = _method(channel, "StreamingInputCall", *messages, kind="stream_unary")
    assert method(iter(requests), timeout=_TIMEOUT_S, **options).aggregated_payload_size == 74922


def client_compressed_streaming(channel: grpc.Channel) -> None:
    """The requests are compressed."""
    client_streaming(channel, compression=grpc.Compression.Gzip)


def server_streaming(channel: grpc.Channel, *, compressed: bool = False) -> None:
    """One request, four responses."""
    messages = wire.StreamingOutputCallRequest, wire.StreamingOutputCallResponse
    method = _method(channel, "StreamingOutputCall", *messages, kind="unary_stream")
    responses = method(_asking(_OUTPUT_SIZES, compressed=compressed), timeout=_TIMEOUT_S)
    assert [len(each.payload.body) for each in responses] == list(_OUTPUT_SIZES)


def server_compressed_streaming(channel: grpc.Channel) -> None:
    """Every second response is compressed."""
    server_streaming(channel, compressed=True)


def ping_pong(channel: grpc.Channel) -> None:
    """Each request waits for the response to the one before."""
    sent: list[int] = []

    def requests() -> Iterator[wire.StreamingOutputCallRequest]:
        for own_size, size in zip(_INPUT_SIZES, _OUTPUT_SIZES, strict=True):
            sent.append(size)
            yield _asking([size], own_size)

    for number, response in enumerate(_duplex(channel)(requests(), timeout=_TIMEOUT_S)):
        assert len(response.payload.body) == _OUTPUT_SIZES[number]
    assert sent == list(_OUTPUT_SIZES)


def empty_stream(channel: grpc.Channel) -> None:
    """No request, no response."""
    assert list(_duplex(channel)(iter(()), timeout=_TIMEOUT_S)) == []


def custom_metadata(channel: grpc.Channel) -> None:
    """It comes back, before and after the response."""
    metadata = (_INITIAL, _TRAILING)
    request = wire.SimpleRequest(response_size=1)
    _, unary = _unary(channel).with_call(request, timeout=_TIMEOUT_S, metadata=metadata)  # type: ignore[attr-defined]
    stream = _duplex(channel)(iter([_asking([1])]), timeout=_TIMEOUT_S, metadata=metadata)
    assert len(list(stream)) == 1
    for call in (unary, stream):
        assert tuple(call.initial_metadata()) == (_INITIAL,)
        assert tuple(call.trailing_metadata()) == (_TRAILING,)


def status_code_and_message(channel: grpc.Channel, message: str = "test status message") -> None:
    """Both are the handler's, of a unary call and of a stream."""
    status = wire.EchoStatus(code=2, message=message)
    unary, stream = wire.SimpleRequest(response_status=status), wire.StreamingOutputCallRequest(response_status=status)
    for call in (
        lambda: _unary(channel)(unary, timeout=_TIMEOUT_S),
        lambda: list(_duplex(channel)(iter([stream]), timeout=_TIMEOUT_S)),
    ):
        assert _expect(grpc.StatusCode.UNKNOWN, call).details() == message


def special_status_message(channel: grpc.Channel) -> None:
    """Whitespace and Unicode."""
    status_code_and_message(channel, _SPECIAL)


def unimplemented_method(channel: grpc.Channel) -> None:
    """A method that no handler serves."""
    method = _method(channel, "UnimplementedCall", wire.Empty, wire.Empty)
    _expect(grpc.StatusCode.UNIMPLEMENTED, lambda: method(wire.Empty(), timeout=_TIMEOUT_S))


def unimplemented_service(channel: grpc.Channel) -> None:
    """A service that is not there."""
    method = channel.unary_unary("/grpc.testing.UnimplementedService/UnimplementedCall")
    _expect(grpc.StatusCode.UNIMPLEMENTED, lambda: method(b"", timeout=_TIMEOUT_S))


@contextmanager
def _unfinished(*requests: Any) -> Iterator[Iterator[Any]]:
    """These requests, and no end of them before the block's."""
    over = threading.Event()

    def each() -> Iterator[Any]:
        yield from requests
        over.wait(_TIMEOUT_S)

    yield each()
    over.set()


def cancel_after_begin(channel: grpc.Channel) -> None:
    """Before any request."""
    messages = wire.StreamingInputCallRequest, wire.StreamingInputCallResponse
    method: Any = _method(channel, "StreamingInputCall", *messages, kind="stream_unary")
    with _unfinished() as requests:
        call = method.future(requests)
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED


def cancel_after_first_response(channel: grpc.Channel) -> None:
    """With requests that could follow."""
    with _unfinished(_asking([31415], 27182)) as requests:
        call = _duplex(channel)(requests, timeout=_TIMEOUT_S)
        assert len(next(call).payload.body) == 31415
        call.cancel()
        _expect(grpc.StatusCode.CANCELLED, lambda: next(call))


def timeout_on_sleeping_server(channel: grpc.Channel) -> None:
    """A deadline of a millisecond."""
    request = _asking([1], 27182)
    request.response_parameters[0].interval_us = 10_000_000
    _expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(_duplex(channel)(iter([request]), timeout=0.001)))


CASES: tuple[Callable[[grpc.Channel], None], ...] = (
    empty_unary,
    large_unary,
    client_compressed_unary,
    server_compressed_unary,
    client_streaming,
    client_compressed_streaming,
    server_streaming,
    server_compressed_streaming,
    ping_pong,
    empty_stream,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_sleeping_server,
)
