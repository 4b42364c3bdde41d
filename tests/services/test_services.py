"""The test services leave nothing behind, whatever ends their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services import S3Address, ServiceFailed, redis_server, s3_address_from
from tests.services.process import accepts_connections, require, running, working_directory

# SIGINT is put right first: a parent that was started in the background hands down that it is ignored.
OWNER = """
import signal, sys, time
from tests.services import redis_server
signal.signal(signal.SIGINT, signal.default_int_handler)
with redis_server() as url:
    print(url, flush=True)
    time.sleep(600)
"""


def directories(name: str) -> set[Path]:
    return set(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"avion-{name}-*"))


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_service_ends_with_its_owner_however_that_ends(by: signal.Signals, tmp_path: Path) -> None:
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=environ) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline().rsplit(":", 1)[1].partition("/")[0])
        assert accepts_connections(port)
        owner.send_signal(by)
        try:
            owner.wait(15)
        except subprocess.TimeoutExpired:
            owner.kill()
            raise

    deadline = time.monotonic() + 15
    while accepts_connections(port) or list(tmp_path.glob("avion-redis-*")):
        assert time.monotonic() < deadline, "the service or its directory outlived its owner"
        time.sleep(0.02)


def test_a_service_that_cannot_start_says_why_and_cleans_up() -> None:
    before = directories("redis")
    with pytest.raises(ServiceFailed, match="no-such-option"), redis_server("--no-such-option", "1"):
        pass
    assert directories("redis") <= before


def test_a_program_that_never_gets_ready_is_stopped() -> None:
    with (
        working_directory("never") as directory,
        running(["sleep", "600"], directory / "log") as program,
        pytest.raises(ServiceFailed, match="not ready"),
    ):
        program.wait_until(lambda: False, timeout_s=0.1)
    with pytest.raises(ProcessLookupError):
        os.killpg(program.pid, 0)


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(ServiceFailed, match="apt-get install no-such-package"):
        require("no-such-program", "no-such-package")


def test_the_command_runs_beside_a_ceph_and_its_status_is_passed_on() -> None:
    script = "import os, sys; print(os.environ['AVION_TEST_S3_ENDPOINT_URL']); sys.exit(7)"
    command = [sys.executable, "-m", "tests.services", "run", "--", sys.executable, "-c", script]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AVION_TEST_")}

    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 7, done.stderr
    port = int(done.stdout.strip().rsplit(":", 1)[1])
    assert not accepts_connections(port)


def test_an_address_travels_in_the_environment() -> None:
    address = S3Address("http://127.0.0.1:1", "key", "secret")

    assert s3_address_from(address.to_environment()) == address
    assert s3_address_from({}) is None
