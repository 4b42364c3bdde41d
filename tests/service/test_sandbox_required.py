"""A machine that cannot confine decoders: the service refuses it, unless somebody accepts the gaps in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import S3Bucket
from tests.service.commands import run_command, start_service
from tests.service.harness import eventually, json_lines, running, service_environment
from trio_sandbox.confinement import find_means
from trio_sandbox.tests.machine import confines_fully

WITHOUT_SECCOMP = "tests.services.without_seccomp"
SETTING = "AVION_MEDIA_SANDBOX__REQUIRE"
# Without Landlock the attempt to become another program succeeds, and is the end of the self-test.
GAPS = ("socket AF_INET", "fork") if find_means().landlock_abi else ("the self-test did not come back",)


def by_default(environment: dict[str, str]) -> dict[str, str]:
    """The environment in which nobody has said anything of the sandbox."""
    return {name: value for name, value in environment.items() if name != SETTING}


@pytest.fixture
def environment(redis_url: str, bucket: S3Bucket) -> dict[str, str]:
    return by_default(service_environment(redis_url, bucket.address.endpoint_url, bucket.bucket))


def test_serve_refuses_and_names_the_gaps_and_the_setting(environment: dict[str, str]) -> None:
    done = run_command("serve", "--roles", "processing", environment=environment, first=WITHOUT_SECCOMP)
    assert done.returncode == 1
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("avion-media: foundation/sandbox: ")]
    for part in (*GAPS, f"{SETTING}=false", "seccomp"):
        assert part in said
    assert "Traceback" not in "\n".join(done.stderr.splitlines()[-3:])


def test_serve_runs_and_warns_where_the_gaps_were_accepted(environment: dict[str, str]) -> None:
    with running(environment | {SETTING: "false"}, roles="processing", first=WITHOUT_SECCOMP) as service:
        (warning,) = [line for line in json_lines(service.log()) if line["event"] == "sandbox.gaps"]
        assert warning["level"] == "warning"
        assert all(any(part in gap for gap in warning["gaps"]) for part in GAPS)
        report = service.ready()
        assert report is not None
        assert report["sandbox"]["seccomp"] is False


def dev(first: str, tmp_path: Path, **settings: str) -> tuple[int | None, str]:
    """Run `dev` until it is ready, or has ended; its status and what it printed."""
    output_path = tmp_path / "output"
    environment = by_default(dict(os.environ)) | settings
    with output_path.open("wb") as output:
        process = start_service(("dev", "--free-ports"), environment, output.fileno(), output.fileno(), first=first)
    try:
        eventually(lambda: "Ctrl-C stops" in output_path.read_text() or process.poll() is not None, "dev", 90)
        ended = process.poll()
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
    return ended, output_path.read_text()


def test_dev_runs_and_says_that_it_went_without(tmp_path: Path) -> None:
    ended, output = dev(WITHOUT_SECCOMP, tmp_path)
    assert ended is None, output
    words = " ".join(output.split())
    assert "This machine cannot confine decoders fully" in words
    assert f"{SETTING}=false" in words
    for gap in GAPS:
        assert gap in words


def test_dev_refuses_where_the_sandbox_was_required_in_words(tmp_path: Path) -> None:
    ended, output = dev(WITHOUT_SECCOMP, tmp_path, **{SETTING: "true"})
    assert ended == 1, output
    assert f"{SETTING}=false" in output


def test_dev_requires_the_sandbox_where_the_kernel_can_confine(tmp_path: Path) -> None:
    ended, output = dev("", tmp_path)
    assert ended is None, output
    assert ("cannot confine" in output) is not confines_fully()
