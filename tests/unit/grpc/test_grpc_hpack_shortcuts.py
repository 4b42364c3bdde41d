"""The shortcuts give what the library gives."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import OversizedHeaderListError
from hypothesis import given
from hypothesis import strategies as st

from avion_media.grpc.h2_connection import CompressionError, MemoDecoder, StatelessEncoder

_LISTS = st.lists(
    st.tuples(st.sampled_from([b":path", b"te", b"x-a", b"x-b"]), st.sampled_from([b"", b"1", b"2", b"v" * 300])),
    min_size=1,
    max_size=5,
)


@given(st.lists(_LISTS, max_size=40), st.lists(st.integers(0, 4096), max_size=3))
def test_the_memo_never_differs_from_the_library(blocks: list[list[tuple[bytes, bytes]]], sizes: list[int]) -> None:
    encoder, decoder, memo = Encoder(), Decoder(), MemoDecoder(1 << 20)
    for number, headers in enumerate(blocks):
        if number % 10 == 9 and sizes:
            encoder.header_table_size = sizes.pop()
        block = encoder.encode(headers)
        expected = list(decoder.decode(block, raw=True))
        assert list(memo.decode(block, raw=True)) == expected == headers


def test_a_repeated_block_is_not_decoded_again() -> None:
    encoder, memo = Encoder(), MemoDecoder(1 << 20)
    memo.decode(encoder.encode([(b"x", b"y")]), raw=True)
    block = encoder.encode([(b"x", b"y")])
    assert memo.decode(block, raw=True) is memo.decode(block, raw=True)


def test_the_bound_of_the_header_list_holds() -> None:
    with pytest.raises(OversizedHeaderListError):
        MemoDecoder(1000).decode(Encoder().encode([(b"x", b"y" * 1000)]), raw=True)


@given(st.lists(_LISTS, min_size=1, max_size=10), st.sampled_from([0, 1, 4096, 65_536]))
def test_what_is_encoded_is_decoded_at_every_table_size(
    blocks: list[list[tuple[bytes, bytes]]], table_size: int
) -> None:
    encoder, decoder = StatelessEncoder(), Decoder()
    decoder.max_allowed_table_size = table_size
    encoder.header_table_size = table_size
    for headers in blocks:
        assert list(decoder.decode(encoder.encode(headers), raw=True)) == headers


@pytest.mark.parametrize("update", [b"\x20", b"\x3f\xe1\x1f"], ids=["to zero", "to 4096"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_a_block_may_begin_with_two_updates_of_the_tables_size(update: bytes, count: int) -> None:
    memo = MemoDecoder(1 << 20)
    if count > 2:
        with pytest.raises(CompressionError):
            memo.decode(update * count + b"\x83", raw=True)
    else:
        assert list(memo.decode(update * count + b"\x83", raw=True)) == [(b":method", b"POST")]


def test_fields_are_charged_also_for_blocks_that_repeat() -> None:
    memo = MemoDecoder(1 << 20)
    for times in (1, 2):
        memo.decode(b"\x83" * 17, raw=True)
        assert memo.flood_units == 2 * times
