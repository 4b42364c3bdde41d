"""Header blocks as the gRPC port decodes them: a request that is accepted has the fields that hpack decodes."""

from __future__ import annotations

from unittest.mock import Mock

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hyperframe.frame import HeadersFrame, SettingsFrame

from tests.fuzz.parser import parser_target
from trio_grpc.frames import PREFACE
from trio_grpc.http2 import Session
from trio_grpc.limits import GrpcLimits
from trio_grpc.wire_format import parse_request_head

_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/avion.MediaService/GetMediaStatus"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("grpc-timeout", "15S"),
    ("x-bin", "AAEC"),
]


def _seeds() -> list[bytes]:
    encoder = Encoder()
    return [encoder.encode(_HEADERS), encoder.encode(_HEADERS), encoder.encode(_HEADERS[:5], huffman=False)]


def _feed(data: bytes) -> None:
    """Three blocks on one connection, the last like the first."""
    receiver = Mock()
    session = Session(receiver, GrpcLimits())
    session.receive(PREFACE + SettingsFrame(0).serialize())
    reference = Decoder(max_header_list_size=GrpcLimits().max_header_list_bytes)
    half = len(data) // 2
    for stream_id, block in zip((1, 3, 5), (data[:half], data[half:], data[:half]), strict=True):
        receiver.headers_received.reset_mock()
        failure = session.receive(HeadersFrame(stream_id, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
        if failure is not None:
            return
        try:
            expected = tuple((bytes(name), bytes(value)) for name, value in reference.decode(block, raw=True))
        except HPACKError:
            assert not receiver.headers_received.called, "a block that cannot be decoded is accepted"
            return
        if receiver.headers_received.called:
            receiver.headers_received.assert_called_once_with(stream_id, expected)
            parse_request_head.__wrapped__(expected)


TARGET = parser_target("hpack", _seeds, _feed, max_bytes=4096)
