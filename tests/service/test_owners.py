"""Whose a medium is: from the request to the task, and nothing that the client sends can change it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from avion_media.common.tasks import PROCESSING_QUEUE
from tests.conftest import S3Bucket
from tests.service.harness import Service, running, service_environment

BODY = b"some bytes"


@pytest.fixture(scope="module")
def gateway(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Iterator[Service]:
    """A service that takes no tasks, so that they can be read."""
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    with running(environment, roles="grpc") as service:
        yield service


@pytest.mark.parametrize("owner", ["alice", "did:web:social.example:u_1-2", "x" * 64, ""])
def test_the_task_names_the_owner_of_the_request(gateway: Service, redis_client: Any, owner: str) -> None:
    redis_client.delete(PROCESSING_QUEUE)
    granted = gateway.request_upload("cat.jpg", "image/jpeg", len(BODY), owner=owner)
    assert gateway.put(granted, BODY).status_code == 200
    gateway.complete(granted.media_id)

    ((_, fields),) = redis_client.xrange(PROCESSING_QUEUE)
    assert fields["media_id"] == granted.media_id
    assert fields.get("owner", "") == owner


@pytest.mark.parametrize("owner", ["alice", ""])
@pytest.mark.parametrize("name", ["x-amz-meta-owner", "x_amz_meta_owner", "X-Amz-Meta_Owner"])
@pytest.mark.parametrize("value", ["victim", "", None])
def test_a_client_cannot_name_another_owner(
    gateway: Service, bucket: S3Bucket, owner: str, name: str, value: str | None
) -> None:
    granted = gateway.request_upload("cat.jpg", "image/jpeg", len(BODY), owner=owner)
    headers = dict(granted.upload_headers)
    signed = headers.pop("x-amz-meta-owner")
    forged = [headers] if value is None else [{**headers, name: value}, {**headers, "x-amz-meta-owner": signed}]
    for each in forged:
        sent = httpx.Headers(each)
        if value is not None and "x-amz-meta-owner" in each:  # both, in either order
            sent = httpx.Headers([*sent.multi_items(), (name, value)])
        response = httpx.put(granted.upload_url, content=BODY, headers=sent, trust_env=False, verify=False, timeout=20)
        assert response.status_code == 403 or "x-amz-meta-owner" in each
        if response.status_code == 200:  # the store did not take the other header for this one
            head = bucket.client.head_object(Bucket=bucket.bucket, Key=f"incoming/{granted.media_id}")
            assert head["Metadata"]["owner"] == signed
