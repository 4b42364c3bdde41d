"""Trailers, percent-encoding, and what exceptions become."""

from __future__ import annotations

import base64
import math
from urllib.parse import unquote_to_bytes

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from trio_grpc import Code, RpcError
from trio_grpc.context import CallContext, Peer
from trio_grpc.hooks import Hooks
from trio_grpc.status import trailers_of


@given(st.text())
def test_percent_encoding_is_ascii_without_breaks_and_can_be_undone(text: str) -> None:
    raw = text.encode("utf-8", "replace")
    encoded = dict(trailers_of(RpcError(Code.INTERNAL, text))).get(b"grpc-message", b"")
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote_to_bytes(encoded) == raw[:1024]


def test_an_error_without_a_message_has_a_status_only() -> None:
    assert trailers_of(RpcError(Code.NOT_FOUND)) == ((b"grpc-status", b"5"),)


def test_details_carry_code_and_message_again() -> None:
    error = RpcError(Code.UNAVAILABLE, "later", [RetryInfo(retry_delay=Duration(seconds=2))])
    encoded = dict(trailers_of(error))[b"grpc-status-details-bin"]
    status = Status.FromString(base64.b64decode(encoded + b"=" * (-len(encoded) % 4)))
    assert (status.code, status.message) == (14, "later")
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 2


def test_trailers_stay_below_what_clients_accept() -> None:
    error = RpcError(Code.INTERNAL, "é" * 100_000, [Status(message="x" * 10_000)])
    trailers = trailers_of(error)
    assert sum(len(name) + len(value) + 32 for name, value in trailers) < 8192
    assert b"grpc-status-details-bin" not in dict(trailers)


def test_a_lone_surrogate_does_not_break_the_answer() -> None:
    assert dict(trailers_of(RpcError(Code.INTERNAL, "\ud800")))[b"grpc-message"] == b"?"


def test_an_unknown_exception_gets_an_id_that_is_reported() -> None:
    reported: list[tuple[str, str, Exception]] = []
    hooks = Hooks(on_error=lambda *report: reported.append(report))
    exception = ValueError("secret")
    error = hooks.error_for(exception, "/a/b")
    assert reported == [(error.message.removeprefix("internal error "), "/a/b", exception)]
    assert error.code is Code.INTERNAL
    assert "secret" not in error.message


def test_an_exception_alone_in_nested_groups_is_taken_out() -> None:
    cause = RpcError(Code.ABORTED)
    assert Hooks().error_for(ExceptionGroup("", [ExceptionGroup("", [cause])]), "/a/b") is cause


def test_hooks_that_fail_are_logged_and_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a hook")

    hooks = Hooks(map_exception=fail, on_error=fail, observe=fail)  # type: ignore[arg-type]
    assert hooks.error_for(ValueError(), "/a/b").code is Code.INTERNAL
    with hooks.observed(CallContext("/a/b", Peer(""), started_at=0.0)):
        pass
    assert [record.message.split(" failed")[0] for record in caplog.records] == ["map_exception", "on_error", "observe"]


def test_without_a_hook_unknown_exceptions_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = Hooks().error_for(ValueError("secret"), "/a/b")
    assert error.message.removeprefix("internal error ") in caplog.text


@pytest.mark.parametrize(("retry_after_s", "pushback"), [(None, None), (1.5, b"1500"), (0.0, b"0"), (math.inf, b"-1")])
def test_clients_learn_when_to_call_again(retry_after_s: float | None, pushback: bytes | None) -> None:
    trailers = dict(trailers_of(RpcError(Code.UNAVAILABLE, "later", retry_after_s=retry_after_s)))
    assert trailers.get(b"grpc-retry-pushback-ms") == pushback
    assert (b"grpc-status-details-bin" in trailers) is (pushback not in (None, b"-1"))
