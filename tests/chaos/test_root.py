"""The root gives up: the process ends by itself, leaves nothing behind, and reports the node and the cause."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest
import redis

from tests.chaos.usage import processes_with
from tests.conftest import S3Bucket
from tests.service.harness import json_lines, service_environment

DOOMED = Path(__file__).parent / "doomed.py"
WHY = [
    "service/sweeper: RuntimeError: a defect of the sweeper",
    "service: more than 1 restarts within 60 s, the last for service/sweeper",
    "/: more than 1 restarts within 60 s, the last for service",
]


def test_more_crashes_than_the_root_bears_end_the_process(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket
) -> None:
    mark = uuid.uuid4().hex
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    done = subprocess.run(
        [sys.executable, DOOMED, "serve"],
        env=environment | {"AVION_TEST_MARK": mark},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    # The final output, for people; the log has the same and more.
    assert done.stderr.splitlines()[-3:] == [f"avion-media: {line}" for line in WHY]
    lines = json_lines(done.stderr)
    (failed,) = (line for line in lines if line["event"] == "tree.failed")
    assert (failed["level"], failed["why"]) == ("critical", WHY)
    crashes = [line for line in lines if line["event"] == "supervision.failed" and line["path"] == "service/sweeper"]
    # The count of restarts survives a restart of the supervisor: the third crash ends `service` again, then the root.
    assert len(crashes) == 3
    assert all("a defect of the sweeper" in line["exception"] for line in crashes)
    assert [line["path"] for line in lines if line["event"] == "supervision.escalated"] == ["service", "service", "/"]
    assert [line["phase"] for line in lines if line["event"] == "phase"][-2:] == ["STOPPING", "DONE"]
    # Nothing is left: no child process, no port, no leased task.
    assert processes_with(mark) == []
    for name in ("GRPC", "HTTP", "ADMIN"):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{environment[f'AVION_MEDIA_{name}__BIND']}", trust_env=False, verify=False, timeout=5)
    assert redis_client.xpending("media_processing_queue", "media_workers")["pending"] == 0


def test_a_port_that_is_taken_ends_the_start_with_one_sentence(redis_of_process: str, bucket: S3Bucket) -> None:
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    taken = environment["AVION_MEDIA_HTTP__BIND"] = environment["AVION_MEDIA_GRPC__BIND"]
    done = subprocess.run(
        [sys.executable, "-m", "avion_media", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    why = f"cannot listen on {taken}: Address already in use"
    assert done.stderr.splitlines()[-1] == f"avion-media: {why}"
    assert "Traceback" not in done.stderr
    (failed,) = (line for line in json_lines(done.stderr) if line["event"] == "tree.failed")
    assert failed["why"] == [why]
