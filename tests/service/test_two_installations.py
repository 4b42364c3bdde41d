"""Two installations of this software beside each other, A and B. What is private on A becomes public nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket, prepared_bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import violations
from tests.service.remote_server import RemoteServer, remote_server
from tests.service.test_private_media import opened, picture, published, revoke, token_of
from tests.services import S3Address, redis_server

OWN_NAME = "media.xn--bcher-kva.example"
SIZES = ("small", "medium", "large")


@dataclass
class Pair:
    """Both, and how they are started again."""

    a: Service
    b: Service
    stack: ExitStack

    def restart(self) -> None:
        self.stack.close()
        self.a = self.stack.enter_context(running(self.a.environment))
        self.b = self.stack.enter_context(running(self.b.environment))


def cached(service: Service, url: str) -> wire.MediaStatus:
    return service.watch(service.cache(url).media_id)[-1]


def refusal(service: Service, url: str) -> dict[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        service.cache(url)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return violations(caught.value)


@contextmanager
def pair(address: S3Address, settings: dict[str, str]) -> Iterator[Pair]:
    with ExitStack() as outer, pytest.MonkeyPatch.context() as patch:
        environments = []
        for extra in (settings, {}):
            bucket: S3Bucket = outer.enter_context(contextmanager(prepared_bucket)(address, patch))
            url = outer.enter_context(redis_server())
            common = {"REMOTE__ALLOW_NETWORKS": "127.0.0.1/32", "REMOTE__TTL": "1s", "DELETE__DELAY": "1s"}
            environments.append(service_environment(url, address.endpoint_url, bucket.bucket, **common, **extra))
        with ExitStack() as stack:
            a, b = (stack.enter_context(running(each)) for each in environments)
            yield Pair(a, b, stack)


@pytest.fixture(
    scope="module",
    params=[
        {"HTTP__PUBLIC_URL": f"https://{OWN_NAME}", "PRIVATE__CDN_MAX_AGE": "30s"},
        {"HTTP__MODE": "redirect", "HTTP__PUBLIC_URL": f"https://{OWN_NAME}"},
    ],
    ids=["proxy", "redirect"],
)
def both(ceph_address: S3Address, request: pytest.FixtureRequest) -> Iterator[Pair]:
    with pair(ceph_address, request.param) as found:
        yield found


@pytest.fixture
def stranger(data_directory: Path) -> Iterator[RemoteServer]:
    with remote_server({"/a.jpg": (data_directory / "jpeg-gray.jpg").read_bytes()}) as remote:
        yield remote


def public_answers(both: Pair, *ids: str) -> set[int]:
    """Return the statuses of all addresses without a token that could show one of these media items."""
    paths = [path for each in ids for path in (f"/media/{each}", *(f"/thumbnail/{size}/{each}" for size in SIZES))]
    services = both.a, both.b
    return {service.get(path).status_code for service in services for path in paths}


def test_a_private_item_of_another_installation_is_never_cached(both: Pair, stranger: RemoteServer) -> None:
    media_id, body = published(both.a)
    token = token_of(both.a, media_id, audience="b.example")
    path = opened(both.a.status(media_id).path, token)
    url = both.a.http_url + path
    assert httpx.get(url, follow_redirects=True, trust_env=False, verify=False).content.startswith(b"\x89PNG")
    assert body
    for address in (url, f"{both.a.http_url}/thumbnail/small/{media_id}/{token}"):
        refused = cached(both.b, address)
        assert (refused.state, refused.reason) == (wire.MediaStatus.FAILED, "not_cacheable")
        assert refusal(both.a, address) == {"remote_url": "OWN_URL"}
    stranger.files["/away.png"], stranger.status["/away.png"] = b"", 302
    stranger.headers["/away.png"] = {"Location": url}
    away = f"{stranger.url}/away.png"
    ours, theirs = cached(both.a, away), cached(both.b, away)
    assert (ours.state, ours.reason) == (wire.MediaStatus.FAILED, "own_url")
    assert (theirs.state, theirs.reason) == (wire.MediaStatus.FAILED, "not_cacheable")
    ids = media_id, refused.media_id, ours.media_id, theirs.media_id, both.b.cache(url).media_id
    assert public_answers(both, *ids) == {404}
    revoke(both.a, media_id)
    assert both.a.get(path).status_code == 403
    assert public_answers(both, *ids) == {404}
    both.a.call("DeleteMedia", wire.DeleteMediaRequest(media_ids=[media_id]), wire.DeleteMediaResponse)
    assert both.a.get(path).status_code in (403, 410)
    assert public_answers(both, *ids) == {404}
    both.restart()
    assert public_answers(both, *ids) == {404}
    assert both.a.get(path).status_code in (403, 410)


def test_public_media_of_another_installation_are_cached(both: Pair) -> None:
    status = both.a.upload("a.png", "image/png", picture())
    copy = cached(both.b, f"{both.a.http_url}/media/{status.media_id}")
    assert copy.state == wire.MediaStatus.READY
    served = httpx.get(f"{both.b.http_url}/media/{copy.media_id}", follow_redirects=True, trust_env=False, verify=False)
    assert served.status_code == 200
    assert copy.media_id != cached(both.b, f"{both.a.http_url}/thumbnail/small/{status.media_id}").media_id


@pytest.mark.parametrize(
    "server",
    [
        "https://media.xn--bcher-kva.example",
        "HTTPS://Media.Bücher.Example",
        "http://media.bücher.example.",
        "https://media.xn--bcher-kva.example:443",
        "http://MEDIA.XN--BCHER-KVA.example:80",
        "https://media.bücher.example:80",
    ],
)
def test_no_spelling_of_an_own_address_is_fetched(both: Pair, server: str) -> None:
    assert refusal(both.a, f"{server}/media/x") == {"remote_url": "OWN_URL"}


def test_the_object_store_is_an_own_address(both: Pair, stranger: RemoteServer) -> None:
    """Its bucket, by path. Other buckets of the same store may be those of other installations."""
    endpoint = both.a.environment["AVION_MEDIA_S3__ENDPOINT_URL"]
    bucket = both.a.environment["AVION_MEDIA_S3__BUCKET"]
    escaped = f"%{ord(bucket[0]):02x}{bucket[1:]}"
    for path in (f"/{bucket}/original/x", f"//{bucket}/x", f"/{escaped}/x", f"/x/../{bucket}/x", f"/{bucket}?list"):
        assert refusal(both.a, endpoint + path) == {"remote_url": "OWN_URL"}
    other = cached(both.a, f"{endpoint}/{bucket}-other/x")
    assert other.reason == "remote_status"
    eventually(lambda: both.a.status(other.media_id).reason, "the status")
    assert cached(both.a, f"{stranger.url}/a.jpg").state == wire.MediaStatus.READY
