"""Header blocks as the gRPC port decodes them, with the memo that must never change a result."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from avion_media.grpc.h2_connection import CompressionError, MemoDecoder
from avion_media.grpc.wire_format import MalformedRequest, parse_request_head
from tests.fuzz.parser import parser_target

_MAX_LIST_BYTES = 16 << 10
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


def _decode(decoder: Decoder, block: bytes) -> list[tuple[bytes, ...]] | None:
    """The fields of a block; none of one that ends the connection."""
    try:
        return [tuple(header) for header in decoder.decode(block, raw=True)]
    except (HPACKError, CompressionError):
        return None


def _feed(data: bytes) -> None:
    """Three blocks on one connection, the last like the first: with and without the memo they must be the same."""
    ours, reference = MemoDecoder(_MAX_LIST_BYTES), Decoder(max_header_list_size=_MAX_LIST_BYTES)
    for block in (data[: len(data) // 2], data[len(data) // 2 :], data[: len(data) // 2]):
        decoded, expected = _decode(ours, block), _decode(reference, block)
        if decoded is None and block[:1] and block[0] & 0xE0 == 0x20:
            return  # too many updates of the table's size, which the library takes
        assert decoded == expected, "the memo changes the result"
        if decoded is None:
            return
        parse_request_head.__wrapped__(tuple(decoded))


TARGET = parser_target("hpack", _seeds, _feed, allowed=(MalformedRequest,), max_bytes=4096)
