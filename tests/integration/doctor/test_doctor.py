"""The doctor on a store that keeps every promise, on one that does not check signatures, and with nothing there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis as redis_py

from avion_media.config import Config, RedisConfig, S3Config
from avion_media.doctor import Area, Finding, Verdict, examine
from avion_media.setup import prepare
from tests.conftest import S3Bucket, fresh_bucket
from tests.service.harness import service_environment
from tests.services import S3Address
from tests.services.process import free_port

NOT_CHECKED_BY_MOTO = {
    "an upload of another length is refused",
    "an upload of another type is refused",
    "an upload to another key is refused",
    "an upload of other bytes than the signed hash is refused",
    "an expired URL is refused",
    "a copy of another version is refused",
    "a patched copy of another version is refused",
}


async def examined(config: Config, *areas: Area) -> dict[str, Finding]:
    """The findings by their claims, each of which was told as it came."""
    told: list[Finding] = []
    findings = await examine(config, frozenset(areas or Area), told.append)
    assert told == findings
    return {finding.claim: finding for finding in findings}


def broken(findings: dict[str, Finding]) -> dict[str, Verdict]:
    return {claim: each.verdict for claim, each in findings.items() if each.verdict is not Verdict.OK}


async def test_a_store_that_keeps_every_promise(s3: S3Bucket, redis_url: str) -> None:
    config = Config(s3=s3.config(), redis=RedisConfig(url=redis_url))
    await prepare(config)

    findings = await examined(config)

    assert broken(findings) == {"it loses nothing by its settings": Verdict.WARNING}  # the test's Redis has no file
    assert len(findings) >= 29
    assert not s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents")


async def test_whoever_stops_it_finds_the_bucket_as_it_was(s3: S3Bucket) -> None:
    seen: list[Finding] = []

    def read_no_further(finding: Finding) -> None:
        seen.append(finding)
        if len(seen) == 3:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await examine(Config(s3=s3.config()), frozenset({Area.STORE}), read_no_further)
    assert not s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents")


async def test_a_bucket_without_rules_is_a_warning(s3: S3Bucket) -> None:
    findings = await examined(Config(s3=s3.config()), Area.STORE)

    assert broken(findings) == {
        "browsers on any site may upload (CORS)": Verdict.WARNING,
        "lifecycle rules empty incoming/": Verdict.WARNING,
    }


async def test_a_store_that_checks_no_signature_is_found_out(
    moto_address: S3Address, aws_environment: pytest.MonkeyPatch, redis_url: str
) -> None:
    for bucket in fresh_bucket(moto_address, aws_environment):
        config = Config(s3=bucket.config(), redis=RedisConfig(url=redis_url))
        await prepare(config)
        findings = await examined(config, Area.STORE)

        assert broken(findings) == dict.fromkeys(NOT_CHECKED_BY_MOTO, Verdict.FAILED)
        assert all(findings[claim].otherwise for claim in NOT_CHECKED_BY_MOTO)


async def test_what_is_away_is_one_finding(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
    aws_environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    config = Config(
        s3=S3Config(endpoint_url=f"http://127.0.0.1:{free_port()}"),
        redis=RedisConfig(url=f"redis://127.0.0.1:{free_port()}"),
    )

    findings = await examined(config, Area.STORE, Area.REDIS)

    assert list(broken(findings).values()) == [Verdict.FAILED] * 2


async def test_a_redis_without_the_groups(redis_url: str) -> None:
    with redis_py.Redis.from_url(redis_url) as client:
        client.xgroup_create("media_cache_queue", "media_workers", mkstream=True)

    findings = await examined(Config(redis=RedisConfig(url=redis_url)), Area.REDIS)

    groups = findings["each queue has its consumer group"]
    assert groups.verdict is Verdict.WARNING
    assert "media_processing_queue" in groups.detail
    assert "media_cache_queue" not in groups.detail


def test_the_command_says_what_fails_and_ends_with_1() -> None:
    environment = service_environment(f"redis://127.0.0.1:{free_port()}", "http://127.0.0.1:9", "avion-media")

    def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "avion_media", "doctor", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    table, data, misuse = doctor("redis", "sandbox"), doctor("sandbox", "--json"), doctor("weather")

    assert (table.returncode, data.returncode, misuse.returncode) == (1, 0, 2)
    assert "failed   redis  it answers" in table.stdout
    assert "1 failed" in table.stdout
    assert {each["area"] for each in json.loads(data.stdout)} == {"sandbox"}
    assert "weather" in misuse.stderr
