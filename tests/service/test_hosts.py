"""Blocked hosts: calls, tasks, redirects, copies, purges and usage, on two replicas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.audit_log import records_in
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running
from tests.service.published import error_reason, events_of, key_of, keys_of, unfinished, violations
from tests.service.remote_server import RemoteServer, remote_server
from tests.service.test_contract_remote import remote_id
from tests.services.process import free_port

Code = grpc.StatusCode
GOOD, BAD = "127.0.0.1", "127.0.0.3"
PICTURE = "jpeg-gray.jpg"
PURGE = "{media_delete_queue}:job:purge"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Two local servers may be fetched from; the lists are hardly ever read without a cause."""
    return {
        "REMOTE__ALLOW_NETWORKS": "127.0.0.0/8",
        "REMOTE__DENY_HOSTS": "worse.example",
        "MODERATION__RELOAD": "1h",
        "REMOTE__KINDS": "avatar:2KiB:30d,header:1MiB:1d,emoji:3B:90d",
    }


@pytest.fixture(scope="module")
def replica(service: Service) -> Iterator[Service]:
    """Another process, without tasks of its own."""
    ports = {f"AVION_MEDIA_{name}__BIND": f"127.0.0.1:{free_port()}" for name in ("GRPC", "HTTP", "ADMIN")}
    with running({**service.environment, **ports}, roles="grpc") as replica:
        yield replica


@pytest.fixture
def servers(data_directory: Path) -> Iterator[tuple[RemoteServer, RemoteServer]]:
    """A good server and a bad one."""
    files = {f"/{number}.jpg": (data_directory / PICTURE).read_bytes() for number in range(4)}
    with remote_server(files, GOOD) as good, remote_server(files, BAD) as bad:
        yield good, bad


def block(service: Service, host: str, **fields: Any) -> int:
    """Return how many copies there are."""
    request = wire.BlockHostRequest(host=host, **fields)
    return int(service.call("BlockHost", request, wire.BlockHostResponse).found)


def unblock(service: Service, host: str) -> None:
    service.call("UnblockHost", wire.UnblockHostRequest(host=host), wire.UnblockHostResponse)


def listed(service: Service, size: int = 0) -> list[wire.BlockedHost]:
    """Return all blocked hosts, page by page."""
    found: list[wire.BlockedHost] = []
    token = ""
    while True:
        request = wire.ListBlockedHostsRequest(page_size=size, page_token=token)
        page = service.call("ListBlockedHosts", request, wire.ListBlockedHostsResponse)
        found += page.hosts
        token = page.next_page_token
        if not token:
            return found


def refusal(call: Any, *arguments: Any) -> tuple[grpc.StatusCode, str]:
    """Return how a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code(), error_reason(caught.value)


def cached(service: Service, url: str) -> wire.MediaStatus:
    """Have a file fetched, and return its final status."""
    return service.watch(service.cache(url).media_id)[-1]


def failures(redis_client: Any, url: str) -> list[str]:
    return [event["reason"] for event in events_of(redis_client, remote_id(url))]


def usage(service: Service, host: str) -> tuple[int, int]:
    found = service.call("GetUsage", wire.GetUsageRequest(host=host), wire.GetUsageResponse)
    return found.count, found.bytes


def test_a_block_from_its_first_copy_to_its_end(
    service: Service,
    replica: Service,
    servers: tuple[RemoteServer, RemoteServer],
    bucket: S3Bucket,
    redis_client: Any,
) -> None:
    good, bad = servers
    copy, other, redirected = f"{bad.url}/0.jpg", f"{bad.url}/1.jpg", f"{good.url}/away.jpg"
    assert cached(service, copy).state == wire.MediaStatus.READY
    assert cached(service, f"{good.url}/0.jpg").state == wire.MediaStatus.READY
    held = sum(
        bucket.client.head_object(Bucket=bucket.bucket, Key=key)["ContentLength"]
        for key in keys_of(bucket, remote_id(copy))
    )
    assert usage(service, BAD) == (1, held)
    page = service.call("ListOwnerMedia", wire.ListOwnerMediaRequest(host=BAD), wire.ListOwnerMediaResponse)
    assert [(each.media_id, each.bytes) for each in page.media] == [(remote_id(copy), held)]

    assert block(service, BAD, note="spam") == 1
    for each in (service, replica):
        assert refusal(each.cache, other) == (Code.PERMISSION_DENIED, "HOST_BLOCKED")
        assert refusal(each.cache, copy) == (Code.PERMISSION_DENIED, "HOST_BLOCKED")
    assert service.get(f"/media/{remote_id(copy)}").status_code == 200
    asked = sum(bad.asked.values())
    redis_client.xadd("media_cache_queue", {"task_id": "queued", "remote_url": other})
    eventually(lambda: failures(redis_client, other) == ["blocked_host"], "the task fails")
    good.files["/away.jpg"] = b""
    good.status["/away.jpg"] = 302
    good.headers["/away.jpg"] = {"Location": other}
    status = cached(service, redirected)
    assert (status.state, status.reason) == (wire.MediaStatus.FAILED, "blocked_host")

    redis_client.flushall()
    assert refusal(replica.cache, other) == (Code.PERMISSION_DENIED, "HOST_BLOCKED")
    redis_client.xadd("media_cache_queue", {"task_id": "again", "remote_url": other})
    eventually(lambda: failures(redis_client, other) == ["blocked_host"], "the task fails")
    assert sum(bad.asked.values()) == asked

    assert block(replica, BAD, note="still spam", purge=True) == 1
    eventually(lambda: not keys_of(bucket, remote_id(copy)), "its copies are removed")
    # Until then it removes new copies as well.
    eventually(lambda: redis_client.hget(PURGE, "state") == "done", "the purge ends")
    assert service.get(f"/media/{remote_id(copy)}").status_code == 404
    assert usage(service, BAD) == (0, 0)
    assert usage(service, GOOD)[0] == 1
    (blocked,) = [each for each in listed(service) if each.host == BAD]
    assert (blocked.exact, blocked.note, blocked.HasField("since")) == (True, "still spam", True)
    assert blocked.by.startswith("anyone at 127.0.0.1")

    unblock(replica, BAD)
    assert cached(service, other).state == wire.MediaStatus.READY
    assert refusal(unblock, service, BAD) == (Code.FAILED_PRECONDITION, "HOST_NOT_BLOCKED")


AVATAR, HEADER, EMOJI = (getattr(wire, f"REMOTE_MEDIA_KIND_{name}") for name in ("AVATAR", "HEADER", "EMOJI"))


def cached_as(service: Service, url: str, kind: Any) -> wire.MediaStatus:
    request = wire.CacheRemoteMediaRequest(remote_url=url, kind=kind)
    answer = service.call("CacheRemoteMedia", request, wire.CacheRemoteMediaResponse)
    return service.watch(answer.media_id)[-1]


def test_kinds_have_limits_of_their_own(
    service: Service, servers: tuple[RemoteServer, RemoteServer], bucket: S3Bucket, redis_client: Any
) -> None:
    server, _ = servers
    url = f"{server.url}/0.jpg"
    for kind in (EMOJI, AVATAR):
        status = cached_as(service, url, kind)
        assert (status.state, status.reason) == (wire.MediaStatus.FAILED, "too_large")
    assert cached_as(service, url, EMOJI).reason == "too_large"
    assert server.asked["/0.jpg"] == 2  # the limit of an emoji was tried already
    assert cached_as(service, url, HEADER).state == wire.MediaStatus.READY
    assert cached_as(service, url, EMOJI).state == wire.MediaStatus.READY
    assert server.asked["/0.jpg"] == 3
    _, ttl_s, max_bytes = redis_client.get(key_of("remote_used", remote_id(url))).split()
    assert (float(ttl_s), int(max_bytes)) == (90 * 86_400, 1 << 20)

    assert cached_as(service, f"{server.url}/1.jpg", 77).state == wire.MediaStatus.READY
    redis_client.xadd("media_cache_queue", {"task_id": "a", "remote_url": f"{server.url}/2.jpg", "kind": "header"})
    eventually(lambda: events_of(redis_client, remote_id(f"{server.url}/2.jpg")), "the task is done")
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket)
    sizes = {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}
    found = json.loads(service.run_cli("hosts", "usage", GOOD, "--json").stdout)
    assert {each["kind"] for each in found} == {"attachment", "header"}
    ids = {key.split("/")[2].partition(".")[0] for key in sizes if key.startswith(f"host/{GOOD}/")}
    held = sum(size for key, size in sizes.items() if any(each in key for each in ids))
    assert sum(each["bytes"] for each in found) == held
    assert sum(each["count"] for each in found) == len(ids)


def test_a_wider_request_does_not_fail_with_a_pending_one(
    service: Service, servers: tuple[RemoteServer, RemoteServer], redis_client: Any
) -> None:
    server, _ = servers
    url = f"{server.url}/3.jpg"
    server.hold.clear()
    answers = [
        service.call(
            "CacheRemoteMedia",
            wire.CacheRemoteMediaRequest(remote_url=url, kind=kind),
            wire.CacheRemoteMediaResponse,
        )
        for kind in (EMOJI, EMOJI, HEADER)
    ]
    first, again, wider = (each.task_id for each in answers)
    assert first == again != wider
    server.hold.set()
    assert service.watch(remote_id(url))[-1].state == wire.MediaStatus.READY
    eventually(lambda: not unfinished(redis_client), "both tasks")
    assert {each["type"] for each in events_of(redis_client, remote_id(url))} == {"remote.ready"}


def test_the_list_has_those_of_the_settings(service: Service) -> None:
    for host in ("b.example", "a.example"):
        block(service, host)
    block(service, "b.example", exact=True, note="only this")
    assert [(each.host, each.exact, each.by) for each in listed(service, size=1) if each.by == "settings"] == [
        ("worse.example", False, "settings")
    ]
    assert [each.host for each in listed(service, size=1)] == ["a.example", "b.example", "worse.example"]
    assert refusal(unblock, service, "worse.example") == (Code.FAILED_PRECONDITION, "HOST_NOT_BLOCKED")
    assert refusal(service.cache, "http://below.A.example.:8080/x") == (Code.PERMISSION_DENIED, "HOST_BLOCKED")
    assert service.cache("http://below.b.example/x").status == "pending"
    assert refusal(service.cache, "http://b.example/x") == (Code.PERMISSION_DENIED, "HOST_BLOCKED")
    shown = json.loads(service.run_cli("hosts", "list", "--json").stdout)
    assert [(each["host"], each["exact"], each["note"]) for each in shown] == [
        ("a.example", False, ""),
        ("b.example", True, "only this"),
        ("worse.example", False, ""),
    ]


def test_commands(service: Service, bucket: S3Bucket) -> None:
    before = len(records_in(bucket))
    blocked = service.run_cli("hosts", "block", "Bücher.example.", "--note", "by hand", "--json")
    assert json.loads(blocked.stdout) == {"host": "xn--bcher-kva.example", "exact": False, "found": 0}
    assert refusal(service.cache, "https://BÜCHER.example/a.jpg") == (Code.PERMISSION_DENIED, "HOST_BLOCKED")
    assert service.run_cli("hosts", "unblock", "bücher.example").returncode == 0
    assert len(records_in(bucket)) == before + 2
    (attachments,) = json.loads(service.run_cli("hosts", "usage", BAD, "--json").stdout)
    assert (attachments["kind"], attachments["count"]) == ("attachment", 1)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "HOST_REQUIRED"),
        *(
            (host, "HOST_INVALID")
            for host in ("localhost", "a.example:443", "a.example/x", "*.a.example", "a..example")
        ),
        *(
            (host, "HOST_INVALID")
            for host in ("A.example", "a.example.", "bücher.example", "=a.example", "[::1]", "127.1")
        ),
    ],
)
def test_other_spellings_are_refused(service: Service, host: str, reason: str) -> None:
    for method, request, answer in (
        ("BlockHost", wire.BlockHostRequest(host=host), wire.BlockHostResponse),
        ("UnblockHost", wire.UnblockHostRequest(host=host), wire.UnblockHostResponse),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            service.call(method, request, answer)
        assert caught.value.code() is Code.INVALID_ARGUMENT
        assert violations(caught.value) == {"host": reason}
