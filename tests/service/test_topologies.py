"""The whole service on a Redis Cluster, and on a master that Sentinels watch; each loses a master while it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import keys_of
from tests.services import redis_cluster, watched_redis

DELAY = "1s"


@dataclass(frozen=True)
class Servers:
    """``client`` is an independent one; ``kill`` takes the master of the processing queue away."""

    url: str
    client: Any
    kill: Callable[[], None]


@pytest.fixture(params=["cluster", "sentinel"])
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    if request.param == "cluster":
        with (
            redis_cluster(replicas=True) as cluster,
            redis.RedisCluster.from_url(cluster.url, decode_responses=True) as client,
        ):
            yield Servers(cluster.url, client, cluster.owner_of("media_processing_queue").kill)
        return
    with watched_redis() as watched, redis.Redis(port=watched.replica.port, decode_responses=True) as client:
        yield Servers(watched.url, client, watched.master.kill)


def upload(service: Service, body: bytes) -> str:
    status = service.upload("cat.jpg", "image/jpeg", body)
    assert status.state == wire.MediaStatus.READY
    return status.media_id


def test_upload_ready_delete_and_again_after_a_failover(
    servers: Servers, bucket: S3Bucket, data_directory: Path
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    settings = {"DELETE__DELAY": DELAY, "REDIS__TIMEOUT": "2s", "TASKS__CLAIM_AFTER": "2s"}
    environment = service_environment(servers.url, bucket.address.endpoint_url, bucket.bucket, **settings)
    with running(environment) as service:
        initialised = service.run_cli("init", "--json")
        assert initialised.returncode == 0, initialised.stderr
        warnings = json.loads(initialised.stdout)["warnings"]
        assert "keeps nothing over a restart" in warnings[0]
        eventually(lambda: (service.ready() or {}).get("warnings") == warnings, "readiness to say so too")

        kept, deleted_id = upload(service, picture), upload(service, picture)
        assert service.get(f"/media/{deleted_id}").status_code == 200
        deleted = service.run_cli("delete", deleted_id)
        assert deleted.returncode == 0, deleted.stderr
        eventually(lambda: service.get(f"/media/{deleted_id}").status_code == 410, "the deleted medium to be gone")
        eventually(lambda: not keys_of(bucket, deleted_id), "its objects to be removed")

        servers.kill()
        eventually(lambda: redis_is(service, "unavailable"), "the outage to be told")
        eventually(lambda: redis_is(service, "up"), "the new master to be found", 60)
        assert service.status(kept).state == wire.MediaStatus.READY
        assert service.get(f"/media/{deleted_id}").status_code == 410
        later = upload(service, picture)
        # The master may have died before it heard that a task had ended: then the task is done once more.
        eventually(lambda: depths(service) == {0}, "all queues to be empty")
        # Not of others: an empty Redis has the deletions of the bucket's journal done again.
        ours = {kept, deleted_id, later}

        def published() -> list[str]:
            events = [json.loads(fields["event"]) for _, fields in servers.client.xrange("media_events")]
            return sorted(each["type"] for each in events if each["media_id"] in ours)

        # The master may have died between the removal and its event: then the event comes with the next attempt.
        eventually(lambda: published() == ["media.deleted", *["media.ready"] * 3], "each event, once")


def depths(service: Service) -> set[int]:
    return {each["depth"] for each in json.loads(service.run_cli("queues", "--json").stdout).values()}


def redis_is(service: Service, state: str) -> bool:
    readiness = service.ready()
    return readiness is not None and readiness["dependencies"]["redis"] == state
