"""SIGTERM during the start, Ctrl-C for `dev`, and budgets that do not fit."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import redis

from tests.chaos.scale import SEED
from tests.chaos.usage import processes_with
from tests.conftest import S3Bucket
from tests.service.harness import eventually, service_environment
from tests.services.process import free_port

LAST_LINE = r"\nexport AVION_MEDIA_\S+ [^\n]+\n\Z"  # of `dev`


@pytest.fixture
def environment(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> dict[str, str]:
    """The environment of a service whose settle time is longer than any test."""
    return service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, DRAIN__SETTLE="20s")


@pytest.mark.parametrize("moment", range(3))
def test_sigterm_during_the_start_ends_it_cleanly(environment: dict[str, str], moment: int) -> None:
    delay_s = random.Random(f"{SEED} {moment}").uniform(0.0, 1.5) * moment / 2
    with subprocess.Popen(
        [sys.executable, "-m", "avion_media", "serve"],
        env=environment | {"AVION_MEDIA_DRAIN__SETTLE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        eventually(lambda: catches_sigterm(process.pid), "the handler to be there", 20)
        time.sleep(delay_s)  # the start can be anywhere by then: imports, configuration, half of the tree
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_ctrl_c_at_the_terminal_of_dev_is_an_ordered_stop(tmp_path: Path) -> None:
    """The terminal sends it to the whole process group, but dependencies of the service must not get it."""
    mark = uuid.uuid4().hex
    said = tmp_path / "said"
    with (
        said.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "avion_media", "dev", "--free-ports"],
            env=os.environ | {"AVION_TEST_MARK": mark},
            stdout=output,
            stderr=output,
            process_group=0,
        ) as process,
    ):
        try:
            eventually(lambda: re.search(LAST_LINE, said.read_text()) or process.poll(), "dev to be ready", 90)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) == 0, said.read_text()
        finally:
            process.kill()
    assert re.search(LAST_LINE, said.read_text()), said.read_text()  # nothing was printed after it
    assert processes_with(mark) == []


def test_budgets_that_do_not_fit_are_refused(environment: dict[str, str]) -> None:
    environment = environment | {
        "AVION_MEDIA_DRAIN__SETTLE": "10s",
        "AVION_MEDIA_DRAIN__GRACE": "40s",
        "AVION_MEDIA_ADMIN__BIND": f"127.0.0.1:{free_port()}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "avion_media", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "settle 10 s + grace 40 s + stop " in done.stderr
    assert "AVION_MEDIA_DRAIN__TERMINATION_GRACE_PERIOD" in done.stderr
    assert "Traceback" not in done.stderr


def catches_sigterm(pid: int) -> bool:
    """Return whether the process has a handler for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
