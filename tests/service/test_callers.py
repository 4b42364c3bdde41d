"""A whole service that asks who calls: tokens and certificates on the gRPC port, a token on the admin port."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment

UPLOAD = wire.RequestMediaUploadRequest(filename="cat.jpg", content_type="image/jpeg", size=7)
STATUS = wire.GetMediaStatusRequest(media_id="malformed")
CACHE = wire.CacheRemoteMediaRequest(remote_url="not a url")
Code = grpc.StatusCode


@dataclass
class World:
    """The service, and everybody's credentials."""

    service: Service
    authority: trustme.CA
    callers_file: Path
    gateway: str
    activitypub: str
    operator: str

    def channel(self, *, certificate: trustme.LeafCert | None = None) -> grpc.Channel:
        """A channel by TLS, with a client certificate or without."""
        key = certificate.private_key_pem.bytes() if certificate else None
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems) if certificate else None
        credentials = grpc.ssl_channel_credentials(self.authority.cert_pem.bytes(), key, chain)
        return grpc.secure_channel(self.service.grpc_address, credentials)

    def code_of(self, method: str, request: Any, token: str | None = None, **with_channel: Any) -> grpc.StatusCode:
        """How a call ends."""
        metadata = [("authorization", f"Bearer {token}")] if token else []
        with self.channel(**with_channel) as channel:
            call = channel.unary_unary(f"/avion.MediaService/{method}", type(request).SerializeToString)
            try:
                call(request, metadata=metadata, timeout=20)
            except grpc.RpcError as error:
                return error.code()
        return Code.OK

    def new_upload(self) -> str:
        """The id of a media item that nobody uploads."""
        with self.channel() as channel:
            call = channel.unary_unary(
                "/avion.MediaService/RequestMediaUpload",
                wire.RequestMediaUploadRequest.SerializeToString,
                wire.RequestMediaUploadResponse.FromString,
            )
            return str(call(UPLOAD, metadata=[("authorization", f"Bearer {self.gateway}")], timeout=20).media_id)

    def admin(self, method: str, path: str, token: str | None = None) -> httpx.Response:
        """A request to the admin port."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.request(
            method, self.service.admin_url + path, headers=headers, trust_env=False, verify=False, timeout=10
        )


def callers_text(**tokens: str) -> str:
    """A callers' file with these tokens; the gateway is known by a certificate too."""
    hashes = {name: json.dumps([hashlib.sha256(token.encode()).hexdigest()]) for name, token in tokens.items()}
    return f"""
[callers.gateway]
methods = ["RequestMediaUpload", "CompleteMediaUpload", "GetMediaStatus", "WatchMediaStatus"]
tokens_sha256 = {hashes["gateway"]}
certificates = ["gateway.avion.test"]

[callers.activitypub]
methods = ["CacheRemoteMedia", "GetMediaStatus", "WatchMediaStatus"]
tokens_sha256 = {hashes["activitypub"]}
"""


@pytest.fixture(scope="module")
def world(redis_of_module: str, bucket: S3Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One service for the module."""
    folder = tmp_path_factory.mktemp("credentials")
    authority = trustme.CA()
    files = {name: folder / name for name in ("server.pem", "ca.pem", "callers.toml", "gateway.pem")}
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(files["server.pem"])
    )
    authority.cert_pem.write_to_path(str(files["ca.pem"]))
    gateway, activitypub, operator = (secrets.token_hex(16) for _ in range(3))
    files["callers.toml"].write_text(callers_text(gateway=gateway, activitypub=activitypub))
    environment = service_environment(
        redis_of_module,
        bucket.address.endpoint_url,
        bucket.bucket,
        GRPC__AUTH="any",
        GRPC__CALLERS_FILE=str(files["callers.toml"]),
        GRPC__TLS_CERT=str(files["server.pem"]),
        GRPC__TLS_CLIENT_CA=str(files["ca.pem"]),
        ADMIN__TOKEN=operator,
        CHAOS__ENABLED="true",
        CLIENT__TOKEN=gateway,
        CLIENT__TLS_CA=str(files["ca.pem"]),
    )
    with running(environment, roles="grpc,http") as service:
        yield World(service, authority, files["callers.toml"], gateway, activitypub, operator)


def test_each_caller_has_its_methods(world: World) -> None:
    for token, expected in (
        (world.gateway, (Code.OK, Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED)),
        (world.activitypub, (Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT)),
        (None, (Code.UNAUTHENTICATED,) * 3),
        ("x" * 32, (Code.UNAUTHENTICATED,) * 3),
        (world.operator, (Code.UNAUTHENTICATED,) * 3),
    ):
        asked = (("RequestMediaUpload", UPLOAD), ("GetMediaStatus", STATUS), ("CacheRemoteMedia", CACHE))
        assert tuple(world.code_of(method, request, token) for method, request in asked) == expected


def test_a_certificate_proves_a_caller_as_well(world: World) -> None:
    gateway = world.authority.issue_cert("gateway.avion.test")
    assert world.code_of("RequestMediaUpload", UPLOAD, certificate=gateway) is Code.OK
    assert world.code_of("CacheRemoteMedia", CACHE, certificate=gateway) is Code.PERMISSION_DENIED
    other = world.authority.issue_cert("other.avion.test", common_name="gateway.avion.test")
    assert world.code_of("RequestMediaUpload", UPLOAD, certificate=other) is Code.UNAUTHENTICATED
    foreign = trustme.CA().issue_cert("gateway.avion.test")
    assert world.code_of("RequestMediaUpload", UPLOAD, certificate=foreign) is Code.UNAVAILABLE


def test_health_is_open(world: World) -> None:
    with world.channel() as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_kubelets_and_prometheus_need_no_token_and_everybody_else_does(world: World) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert world.admin("GET", path).status_code == 200
    for method, path in (("GET", "/tree"), ("POST", "/chaos/kill?path=service/origin")):
        for token in (None, "x" * 32, world.gateway):
            assert world.admin(method, path, token).status_code == 401
    assert world.admin("GET", "/tree", world.operator).json()["name"] == "avion-media"


def test_the_commands_show_the_tokens_of_their_settings(world: World) -> None:
    tree = world.service.run_cli("tree", "--json")
    assert json.loads(tree.stdout)["name"] == "avion-media"
    # This file is no medium; but the call got there, over TLS and with the token.
    upload = world.service.run_cli("upload", str(Path(__file__)))
    assert "INVALID_ARGUMENT" in upload.stderr
    kept = dict(world.service.environment)
    try:
        world.service.environment["AVION_MEDIA_CLIENT__TOKEN"] = "x" * 32
        world.service.environment["AVION_MEDIA_ADMIN__TOKEN"] = "y" * 32
        assert "UNAUTHENTICATED" in world.service.run_cli("upload", str(Path(__file__))).stderr
        refused = world.service.run_cli("tree")
        assert (refused.returncode, "ADMIN__TOKEN" in refused.stderr) == (1, True)
    finally:
        world.service.environment.update(kept)


def test_a_token_is_replaced_without_a_restart(world: World) -> None:
    fresh = secrets.token_hex(16)
    world.callers_file.write_text(callers_text(gateway=fresh, activitypub=world.activitypub))
    eventually(lambda: world.code_of("RequestMediaUpload", UPLOAD, fresh) is Code.OK, "the new token to be known")
    assert world.code_of("RequestMediaUpload", UPLOAD, world.gateway) is Code.UNAUTHENTICATED
    world.callers_file.write_text("broken [")
    eventually(lambda: "credentials.unreadable" in world.service.log() or None, "the broken file to be told")
    assert world.code_of("RequestMediaUpload", UPLOAD, fresh) is Code.OK
    world.callers_file.write_text(callers_text(gateway=world.gateway, activitypub=world.activitypub))
    eventually(lambda: world.code_of("RequestMediaUpload", UPLOAD, world.gateway) is Code.OK, "the old one to be back")


@pytest.mark.parametrize("method", ["/avion.MediaService/WatchMediaStatus", "/grpc.health.v1.Health/Watch"])
def test_a_watch_ends_when_its_caller_leaves_the_file(world: World, method: str) -> None:
    kept = callers_text(gateway=world.gateway, activitypub=world.activitypub)
    replaced = callers_text(gateway=secrets.token_hex(16), activitypub=world.activitypub)
    gone = kept[kept.index("[callers.activitypub]") :]
    without_right = kept.replace('"CompleteMediaUpload", "GetMediaStatus", "WatchMediaStatus"', '"CompleteMediaUpload"')
    cases = [(gone, Code.UNAUTHENTICATED), (replaced, Code.UNAUTHENTICATED)]
    if method.startswith("/avion."):
        cases.append((without_right, Code.PERMISSION_DENIED))
        media_id = world.new_upload()
        request: Any = wire.GetMediaStatusRequest(media_id=media_id)
    else:
        request = health_pb2.HealthCheckRequest()
    for text, code in cases:
        with world.channel() as channel:
            watch, other = (
                channel.unary_stream(method, type(request).SerializeToString)(
                    request, metadata=[("authorization", f"Bearer {token}")], timeout=60
                )
                for token in (world.gateway, world.activitypub)
            )
            next(watch)
            next(other)
            began_at = time.monotonic()
            world.callers_file.write_text(text)
            with pytest.raises(grpc.RpcError) as ended:
                next(watch)
            assert (ended.value.code(), time.monotonic() - began_at < 5) == (code, True)
            assert other.is_active()
            other.cancel()
        world.callers_file.write_text(kept)
        eventually(
            lambda: world.code_of("RequestMediaUpload", UPLOAD, world.gateway) is Code.OK, "the callers to be back"
        )


def test_no_secret_is_told_anywhere(world: World) -> None:
    """Last in the file: everything above has been logged by now."""
    told = world.service.log() + world.admin("GET", "/metrics").text
    told += json.dumps(world.admin("GET", "/tree", world.operator).json())
    for arguments in (("config",), ("config", "--json")):
        shown = world.service.run_cli(*arguments)
        assert shown.returncode == 0
        told += shown.stdout + shown.stderr
    assert "rpc.refused" in told
    for secret in (world.gateway, world.activitypub, world.operator, "Bearer"):
        assert secret not in told


def test_a_port_for_others_without_a_decision_is_refused_at_the_start(world: World) -> None:
    environment = {name: value for name, value in world.service.environment.items() if "__AUTH" not in name}
    environment = {name: value for name, value in environment.items() if "CALLERS" not in name}
    kept = world.service.environment
    try:
        world.service.environment = environment | {"AVION_MEDIA_GRPC__BIND": "0.0.0.0:0"}
        refused = world.service.run_cli("serve")
    finally:
        world.service.environment = kept
    assert refused.returncode == 2
    assert "AVION_MEDIA_GRPC__AUTH" in refused.stderr
