"""A queue that was added as CONTRIBUTING.md says, by its row alone, is on every page and in every command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis as redis_py

from tests.conftest import S3Bucket
from tests.service.commands import run_command
from tests.service.harness import Service, eventually, running, service_environment

ANOTHER = "media_another_queue"
ADDED_BY = "tests.service.another_queue"  # which must not be imported here
MEDIA_ID = "01M88C0SJ305C5J3D3BYCKGCA5"
PAGES = ("", "/queues", "/dead-letters", "/media", f"/media/{MEDIA_ID}", "/moderation", "/system", "/audit")


@pytest.fixture
def service(s3: S3Bucket, redis_url: str) -> Iterator[Service]:
    """A service with a dead letter and an old task in the queue, which no process reads."""
    environment = service_environment(redis_url, s3.address.endpoint_url, s3.bucket)
    with redis_py.Redis.from_url(redis_url) as client:
        client.xadd(f"{{{ANOTHER}}}:dlq", {"task_id": "t", "media_id": MEDIA_ID, "error": "internal: a test"})
        client.xadd(ANOTHER, {"task_id": "u", "media_id": MEDIA_ID, "wanted": "1"}, id="1-0")
    with running(environment, roles="delete", first=ADDED_BY) as started:
        yield started


def run(service: Service, *arguments: str) -> Any:
    ended = run_command(*arguments, "--json", environment=service.environment, first=ADDED_BY)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_row_is_all_that_pages_and_commands_need(service: Service) -> None:
    with httpx.Client(base_url=service.admin_url, trust_env=False, verify=False, timeout=20) as client:

        def figures() -> str:
            text = client.get("/console/queues").text
            return text if "No workers" in text else ""

        eventually(figures, "the console to have the figures of the queue")
        for page in PAGES:
            response = client.get(f"/console{page}")
            assert response.status_code == 200, page
            if page not in ("/media", "/moderation", "/system", "/audit"):
                assert "Another" in response.text, page
        assert ANOTHER in client.get("/metrics").text
    assert run(service, "queues")[ANOTHER]["dead_letters"] == 1
    (found,) = run(service, "dlq", "list", "--queue", "another")
    assert found["queue"] == ANOTHER
    assert {each["queue"] for each in run(service, "inspect", MEDIA_ID)["tasks"]} == {ANOTHER}
    run(service, "queues", "pause", "another")
    assert run(service, "queues")[ANOTHER]["paused_since"]
    run(service, "queues", "cancel", "another", "u")
    assert run(service, "dlq", "drop", found["entry_id"])
    run(service, "jobs")
    run(service, "init")
