"""The service's memory and environment, where its credentials are, are closed to other processes of its user."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.faults import fork_server_pids
from tests.service.harness import Service, running, service_environment

# The capability lets it reach an interpreter in root's own folders; it opens no process to another one.
CAPABILITY = "-all,+dac_read_search"
AS_THE_USER = (
    *("setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups"),
    *("--bounding-set", CAPABILITY, "--inh-caps", CAPABILITY, "--ambient-caps", CAPABILITY, "--"),
)
PEEK = """
import sys
for name in sys.argv[2:]:
    try:
        with open(f"/proc/{sys.argv[1]}/{name}", "rb") as file:
            file.read(1) if name != "mem" else None
    except PermissionError:
        continue
    print(name)
"""


@pytest.fixture(scope="module")
def service(redis_of_module: str, bucket: S3Bucket) -> Iterator[Service]:
    """One that does not run as root, as in its container."""
    environment = service_environment(redis_of_module, bucket.address.endpoint_url, bucket.bucket)
    with running(environment, prefix=AS_THE_USER) as service:
        yield service


def readable(pid: int) -> list[str]:
    """What another process of the same user can read of it."""
    names = ("environ", "mem", "maps", "auxv")
    command = [*AS_THE_USER, sys.executable, "-c", PEEK, str(pid), *names]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()


def test_a_process_of_the_same_user_reads_neither_environment_nor_memory(service: Service) -> None:
    assert Path(f"/proc/{service.process.pid}/status").read_text().count("10001") >= 8  # it runs as this user
    assert readable(service.process.pid) == []


def test_the_fork_server_is_closed_too(service: Service) -> None:
    (pid,) = fork_server_pids(service)
    assert readable(pid) == []


def test_any_other_process_of_that_user_is_open() -> None:
    """Or the tests above would pass for another reason."""
    with subprocess.Popen([*AS_THE_USER, "sleep", "60"]) as other:
        try:
            assert readable(other.pid) == ["environ", "mem", "maps", "auxv"]
        finally:
            other.kill()


@pytest.mark.parametrize("name", ["jpeg-orientation-6.jpg", "mp4-h264-faststart.mp4"])
def test_it_works_all_the_same(service: Service, data_directory: Path, name: str) -> None:
    kind = "image/jpeg" if name.endswith("jpg") else "video/mp4"
    status = service.upload(name, kind, (data_directory / name).read_bytes())
    assert status.state == wire.MediaStatus.READY
    assert "Permission denied" not in service.log()
