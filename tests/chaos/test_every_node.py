"""Every node of the real tree crashes once: its group restarts, the rest does not notice, no upload is lost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
import redis

from tests.chaos.groups import PURGE_URL, all_paths, changed, group_of, incarnations, nodes
from tests.chaos.load import Caller, Later
from tests.chaos.usage import tree_of
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, json_lines, running, service_environment

_recovery_s: dict[str, float] = {}


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Iterator[Service]:
    """One service for all nodes, so that a crash has to cope with what the one before it left, as in production."""
    environment = service_environment(
        redis_of_process,
        bucket.address.endpoint_url,
        bucket.bucket,
        CHAOS__ENABLED="true",
        TASKS__CLAIM_AFTER="2s",
        CDN__PURGE_URLS=PURGE_URL,
    )
    with running(environment) as service:
        yield service


@pytest.fixture(scope="module")
def caller(service: Service) -> Iterator[Caller]:
    """A client that repeats calls that were UNAVAILABLE."""
    with grpc.insecure_channel(service.grpc_address) as channel:
        yield Caller(channel, retries=True)


@pytest.mark.parametrize("path", all_paths())
def test_a_crash_restarts_its_group_only(service: Service, caller: Caller, picture: bytes, path: str) -> None:
    before = incarnations(tree_of(service))
    changes_before = whole(service)["ready_changes"]
    log_before = len(json_lines(service.log()))
    queued = caller.upload(picture)  # in progress when the crash comes
    with Later(lambda: caller.upload(picture)) as second:  # being uploaded when the crash comes
        killed_at = time.monotonic()
        kill(service, path)
        tree = eventually(lambda: recovered(service, path, before[path]), f"{path} and its group to run again", 30)
        _recovery_s[path] = time.monotonic() - killed_at
        assert changed(before, incarnations(tree)) == group_of(path)
    caller.wait_ready([queued, second.result], 30)
    assert set(caller.codes) <= {"OK", "UNAVAILABLE"}, caller.problems
    assert whole(service)["ready_changes"] >= changes_before + 2, "/readyz did not flip and come back"
    told = [line for line in json_lines(service.log())[log_before:] if line["event"] == "readiness"]
    assert any(path in line["down"] and not line["ready"] for line in told), "the log does not say who was down"
    assert (told[-1]["ready"], told[-1]["down"]) == (True, [])


def test_recovery_is_quick(service: Service, redis_client: redis.Redis) -> None:
    """This runs after the other tests. It prints the figures with ``-s``."""
    worst = max(_recovery_s, key=lambda path: _recovery_s[path])
    print(
        f"\n{len(_recovery_s)} nodes crashed: recovery median {statistics.median(_recovery_s.values()):.2f} s,"
        f" worst {_recovery_s[worst]:.2f} s ({worst})"
    )
    assert _recovery_s[worst] < 20
    assert not redis_client.exists("{media_processing_queue}:dlq")


def whole(service: Service) -> dict[str, Any]:
    """Return the response of ``/readyz`` once it is 200."""
    return eventually(service.ready, "/readyz to be 200")


def kill(service: Service, path: str) -> None:
    """Kill a node. There is no response if that also stops the admin port."""
    try:
        answer = httpx.post(
            f"{service.admin_url}/chaos/kill", params={"path": path}, trust_env=False, verify=False, timeout=30
        )
    except httpx.HTTPError:
        assert "service/" not in path
        return
    assert answer.json()["killed"]


def recovered(service: Service, path: str, incarnation: int) -> dict[str, Any] | None:
    """Return the tree once ``path`` has restarted and every node runs."""
    try:
        tree = tree_of(service)
    except httpx.HTTPError:
        return None
    if incarnations(tree)[path] == incarnation:
        return None
    return tree if all(node["state"] == "running" for node in nodes(tree)) else None
