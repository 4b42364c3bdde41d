"""Metadata in both directions, with grpcio's client and frame by frame."""

from __future__ import annotations

import base64

import grpc
import pytest

from tests.interop.methods import TIMEOUT_S, say
from tests.interop.serving import echo_server, with_grpcio
from tests.interop.wire import echo_pb2 as wire
from trio_grpc import CallContext, Code, Metadata, Peer
from trio_grpc.tests.raw_client import raw_client, request_headers
from trio_grpc.wire_format import parse_request_head

HELLO = wire.EchoRequest(text="hello")


async def test_initial_and_trailing_metadata_reach_the_client() -> None:
    sent = [
        ("x-initial", "first"),
        ("x-trailing-bin", b"\x00\xff"),
        ("x-trailing-bin", b"again"),
        ("x-trailing", "last"),
    ]

    def client(channel: grpc.Channel) -> tuple[list[object], list[object]]:
        _, call = say(channel).with_call(HELLO, timeout=TIMEOUT_S, metadata=sent)
        return [tuple(each) for each in call.initial_metadata()], [tuple(each) for each in call.trailing_metadata()]

    async with echo_server() as server:
        initial, trailing = await with_grpcio(server, client)
    assert ("x-initial", "first") in initial
    assert trailing == [("x-trailing", "last"), ("x-trailing-bin", b"\x00\xff"), ("x-trailing-bin", b"again")]


async def test_trailing_metadata_goes_with_an_error_too() -> None:
    async with echo_server() as server, raw_client(server.port) as client:
        headers = [*request_headers(), ("x-initial", "a"), ("x-initial-bin", "YQ")]  # the second time fails
        await client.send(client.call(1, HELLO, headers))
        await client.read_until(lambda seen: seen.status(1) == str(int(Code.INTERNAL)))
        assert ("x-initial", "a") in client.headers[1][0]
        assert [type(error) for _, _, error in server.errors] == [RuntimeError]


def _metadata(*pairs: tuple[bytes, bytes]) -> Metadata:
    base = tuple((name.encode(), value.encode()) for name, value in request_headers())
    return parse_request_head((*base, *pairs)).metadata


def test_a_name_may_come_more_than_once() -> None:
    metadata = _metadata((b"x", b"1"), (b"y", b"2"), (b"x", b"3, 4"))
    assert metadata.get("x") == "1"
    assert metadata.get_all("x") == ("1", "3, 4")
    assert metadata.items() == (("x", "1"), ("y", "2"), ("x", "3, 4"))
    assert "y" in metadata
    assert "z" not in metadata


def test_binary_values_are_split_and_decoded_one_by_one_padded_or_not() -> None:
    padded, bare = base64.b64encode(b"\x00"), base64.b64encode(b"abcd").rstrip(b"=")
    metadata = _metadata((b"x-bin", padded + b"," + bare), (b"x-bin", b""))
    assert metadata.get_all("x-bin") == (b"\x00", b"abcd", b"")


@pytest.mark.parametrize("fields", [1, 20])
def test_more_binary_values_than_anybody_sends_are_refused(fields: int) -> None:
    base = tuple((name.encode(), value.encode()) for name, value in request_headers())
    assert parse_request_head((*base, (b"x-bin", b"," * 128))).refusal is None
    refused = parse_request_head((*base, *((b"x-bin", b"," * (300 // fields)),) * fields))
    assert refused.refusal is not None
    assert refused.refusal.code is Code.INTERNAL
    assert not refused.metadata.items()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upper", "x"),
        (":path", "x"),
        ("grpc-status", "0"),
        ("content-type", "x"),
        ("connection", "x"),
        ("", "x"),
        ("x y", "x"),
        ("x", "line\nbreak"),
        ("x", " blank"),
        ("x", "é"),
        ("x", b"bytes"),
        ("x-bin", "text"),
        ("x", "y" * 8192),
    ],
)
def test_what_grpc_does_not_allow_is_a_defect_of_the_handler(name: str, value: str | bytes) -> None:
    context = CallContext("/a.B/C", Peer("test"), started_at=0.0)
    with pytest.raises(ValueError):
        context.add_trailing_metadata([(name, value)])


def test_the_limit_of_metadata_is_for_all_of_it() -> None:
    context = CallContext("/a.B/C", Peer("test"), started_at=0.0)
    context.add_trailing_metadata([("x", "y" * 5000)])
    with pytest.raises(ValueError, match="8192 bytes"):
        context.add_trailing_metadata([("x", "y" * 5000)])
