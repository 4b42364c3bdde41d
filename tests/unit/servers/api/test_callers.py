"""The callers' file, and who may call what."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from avion_media.servers.api.callers import METHODS, Authoriser, InvalidCallers, parse_callers
from trio_grpc import CallContext, Code, Metadata, Peer, RpcError

GATEWAY_TOKEN, OLD_TOKEN, INBOX_TOKEN = "gateway-token-1", "gateway-token-0", "activitypub-token"


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


FILE = f"""
[callers.gateway]
methods = ["RequestMediaUpload", "CompleteMediaUpload", "GetMediaStatus", "WatchMediaStatus"]
tokens_sha256 = ["{sha256(GATEWAY_TOKEN)}", "{sha256(OLD_TOKEN).upper()}"]
certificates = ["spiffe://avion.example/gateway", "Gateway.avion.internal"]

[callers.activitypub]
methods = ["CacheRemoteMedia", "GetMediaStatus", "WatchMediaStatus"]
tokens_sha256 = ["{sha256(INBOX_TOKEN)}"]

[callers.operator]
methods = ["*"]
certificates = ["spiffe://avion.example/operator"]
"""


def asked(method: str, authorization: str | None = None, names: tuple[tuple[str, str], ...] = ()) -> tuple[Code, str]:
    """What becomes of a call, and whose it was found to be."""
    authorise = Authoriser(lambda: parse_callers(FILE), tokens=True, certificates=True)
    certificate: dict[str, Any] | None = {"subjectAltName": names} if names else None
    path = method if method.startswith("/") else f"/avion.MediaService/{method}"
    metadata = Metadata([] if authorization is None else [("authorization", authorization)])
    call = CallContext(path, Peer("10.0.0.1:1", certificate), metadata, started_at=0.0)
    try:
        authorise(call)
    except RpcError as refusal:
        return refusal.code, call.caller
    return Code.OK, call.caller


@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_caller_has_its_methods(method: str) -> None:
    gateway = method in {"RequestMediaUpload", "CompleteMediaUpload", "GetMediaStatus", "WatchMediaStatus"}
    inbox = method in {"CacheRemoteMedia", "GetMediaStatus", "WatchMediaStatus"}
    for token in (GATEWAY_TOKEN, OLD_TOKEN):
        expected = Code.OK if gateway else Code.PERMISSION_DENIED
        assert asked(method, f"Bearer {token}") == (expected, "gateway")
    assert asked(method, f"bearer {INBOX_TOKEN}") == (Code.OK if inbox else Code.PERMISSION_DENIED, "activitypub")
    assert asked(method, names=(("URI", "spiffe://avion.example/operator"),)) == (Code.OK, "operator")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        f"Basic {GATEWAY_TOKEN}",
        GATEWAY_TOKEN,
        f"Bearer {GATEWAY_TOKEN},Bearer {GATEWAY_TOKEN}",
        f"Bearer {sha256(GATEWAY_TOKEN)}",
        "Bearer " + "x" * 10_000,
    ],
)
def test_strangers_get_nowhere(authorization: str | None) -> None:
    for method in (*METHODS, "Nothing", "/nobody/Nothing", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
        assert asked(method, authorization) == (Code.UNAUTHENTICATED, "")


def test_health_is_for_everybody_and_reflection_for_every_caller() -> None:
    for authorization in (None, "Bearer x", f"Bearer {INBOX_TOKEN}"):
        assert asked("/grpc.health.v1.Health/Check", authorization)[0] is Code.OK
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    for method in (reflection, "/grpc.health.v1.Health/Watch"):  # both hold a handler for as long as one likes
        assert asked(method, f"Bearer {INBOX_TOKEN}") == (Code.OK, "activitypub")
        assert asked(method)[0] is Code.UNAUTHENTICATED


def test_what_is_not_there_looks_like_what_is_not_allowed() -> None:
    for method in ("Nothing", "/nobody/Nothing", "/avion.MediaServiceX/GetMediaStatus", "/", "x"):
        assert asked(method, f"Bearer {GATEWAY_TOKEN}")[0] is Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ((("URI", "spiffe://avion.example/gateway"),), Code.OK),
        ((("DNS", "other.internal"), ("DNS", "GATEWAY.avion.internal")), Code.OK),
        ((("DNS", "gateway.avion.internal.evil.example"),), Code.UNAUTHENTICATED),
        ((("URI", "spiffe://avion.example/GATEWAY"),), Code.UNAUTHENTICATED),
        ((("DNS", "spiffe://avion.example/gateway"),), Code.UNAUTHENTICATED),
        ((("email", "gateway.avion.internal"),), Code.UNAUTHENTICATED),
    ],
)
def test_certificates_count_by_their_names(names: tuple[tuple[str, str], ...], code: Code) -> None:
    assert asked("GetMediaStatus", names=names)[0] is code


def test_a_token_that_is_shown_decides_alone() -> None:
    names = (("URI", "spiffe://avion.example/operator"),)
    assert asked("CacheRemoteMedia", f"Bearer {GATEWAY_TOKEN}", names) == (Code.PERMISSION_DENIED, "gateway")
    assert asked("CacheRemoteMedia", "Bearer wrong", names)[0] is Code.UNAUTHENTICATED


def test_only_what_was_asked_for_proves_anything() -> None:
    call = CallContext(
        "/avion.MediaService/GetMediaStatus",
        Peer("x"),
        Metadata([("authorization", f"Bearer {GATEWAY_TOKEN}")]),
        started_at=0,
    )
    with pytest.raises(RpcError):
        Authoriser(lambda: parse_callers(FILE), tokens=False, certificates=True)(call)
    peer = Peer("x", {"subjectAltName": (("URI", "spiffe://avion.example/gateway"),)})
    with pytest.raises(RpcError):
        Authoriser(lambda: parse_callers(FILE), tokens=True, certificates=False)(
            CallContext(call.method, peer, started_at=0)
        )


def test_credentials_are_not_in_the_text_of_a_call() -> None:
    call = CallContext("/x", Peer("x"), Metadata([("authorization", f"Bearer {GATEWAY_TOKEN}")]), started_at=0)
    assert GATEWAY_TOKEN not in repr(call)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected tables"),
        ("[callers]", "expected tables"),
        ("callers = 1", "expected tables"),
        ("not toml", "no TOML"),
        (FILE + "\n[other]\nx = 1", "expected tables"),
        ("[callers.Gateway]\nmethods = ['*']", "lower-case"),
        ("[callers.x]\nmethods = ['*']", "needs tokens_sha256"),
        ("[callers.x]\nmethods = []\ntokens_sha256 = ['" + "0" * 64 + "']", "methods are"),
        ("[callers.x]\nmethods = ['GetMediaStatuss']\ntokens_sha256 = ['" + "0" * 64 + "']", "methods are"),
        ("[callers.x]\nmethods = 'GetMediaStatus'", "list of strings"),
        ("[callers.x]\nmethods = ['*']\ntokens_sha256 = ['a-plain-secret']", "never the tokens themselves"),
        ("[callers.x]\nmethods = ['*']\ntoken = 'a-plain-secret'", "expected certificates, methods"),
        ("[callers.x]\nmethods = ['*']\ncertificates = ['*.example']", "whole URIs"),
        (FILE + f"\n[callers.x]\nmethods = ['*']\ntokens_sha256 = ['{sha256(INBOX_TOKEN)}']", "twice"),
        (FILE + "\n[callers.x]\nmethods = ['*']\ncertificates = ['gateway.avion.internal']", "twice"),
    ],
)
def test_a_file_that_is_not_exactly_right_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidCallers, match=told) as caught:
        parse_callers(text)
    assert "secret" not in str(caught.value)


def test_the_example_of_the_documentation_is_right() -> None:
    text = (Path(__file__).resolve().parents[4] / "docs" / "authentication.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert {caller.name for caller in parse_callers(example)} >= {"gateway", "activitypub"}
