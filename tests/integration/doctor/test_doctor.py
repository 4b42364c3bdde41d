"""The doctor on a store that keeps every promise, on one that does not check signatures, and with nothing there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis as redis_py

from avion_media.config import Config, RedisConfig, S3Config
from avion_media.doctor import Area, Finding, Verdict, examine, examine_forgeries
from avion_media.setup import prepare
from tests.conftest import S3Bucket, fresh_bucket
from tests.service.harness import service_environment
from tests.services import S3Address
from tests.services.faulty_gateway import faulty_gateway
from tests.services.process import free_port

COPY = "an upload cannot become a copy of another object (x-amz-copy-source)"
OPENED = "an upload cannot be opened to others (x-amz-acl, x-amz-grant-…)"
BOTH_SETTINGS = "AVION_MEDIA_S3__UPLOAD_DENY_COPY=true and AVION_MEDIA_S3__UPLOAD_ACL=bucket-owner-full-control"
NOT_CHECKED_BY_MOTO = {
    "an upload of another length is refused",
    "an upload of another type is refused",
    "an upload to another key is refused",
    "an upload of other bytes than the signed hash is refused",
    "an expired URL is refused",
    "a URL with a changed signature is refused",
    COPY,
    OPENED,
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


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"upload_deny_copy": False}, {COPY: "AVION_MEDIA_S3__UPLOAD_DENY_COPY=true"}),
        ({"upload_acl": ""}, {OPENED: "AVION_MEDIA_S3__UPLOAD_ACL=bucket-owner-full-control"}),
        ({"upload_deny_copy": False, "upload_acl": ""}, dict.fromkeys((COPY, OPENED), BOTH_SETTINGS)),
        ({"upload_acl": "private"}, {}),
    ],
)
async def test_a_store_that_can_be_forged_with_is_named_with_the_setting_that_prevents_it(
    s3: S3Bucket, settings: dict[str, object], named: dict[str, str]
) -> None:
    """Ceph 18 obeys headers that an upload URL does not sign."""
    findings = await examine_forgeries(Config(s3=s3.config(**settings)))

    failed = {each.claim: each.detail for each in findings if each.verdict is not Verdict.OK}
    assert failed.keys() == named.keys()
    assert all(setting in failed[claim] for claim, setting in named.items())
    assert not s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents")


@pytest.mark.parametrize(
    ("refused", "takes"),
    [
        ({b"x-amz-acl: bucket-owner-full-control"}, "set AVION_MEDIA_S3__UPLOAD_ACL=private"),
        ({b"x-amz-acl: bucket-owner-full-control", b"x-amz-acl: private"}, "set AVION_MEDIA_S3__UPLOAD_ACL="),
        (
            {b'x-amz-copy-source-if-match: "no-server-side-copy"'},
            "set AVION_MEDIA_S3__UPLOAD_DENY_COPY=false",
        ),
    ],
    ids=["takes private", "takes no ACL", "takes no condition"],
)
async def test_a_store_that_refuses_the_signed_headers_is_named_with_what_it_takes(
    s3: S3Bucket, refused: set[bytes], takes: str
) -> None:
    async with faulty_gateway(s3.address.endpoint_url) as store:
        store.not_implemented = frozenset(refused)
        findings = await examine_forgeries(Config(s3=s3.config(endpoint_url=store.url)))

    accepted = next(each for each in findings if each.claim == "a presigned upload is accepted")
    assert accepted.verdict is Verdict.FAILED
    assert accepted.detail == f"the store answered 501 Not Implemented; {takes}"


async def test_a_bucket_in_which_uploads_can_be_locked_is_named(s3: S3Bucket) -> None:
    locked = f"{s3.bucket}-locked"
    s3.client.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    try:
        findings = await examine_forgeries(Config(s3=s3.config(bucket=locked)))
    finally:
        for each in s3.client.list_object_versions(Bucket=locked).get("Versions", []):
            s3.client.delete_object(
                Bucket=locked, Key=each["Key"], VersionId=each["VersionId"], BypassGovernanceRetention=True
            )
        for marker in s3.client.list_object_versions(Bucket=locked).get("DeleteMarkers", []):
            s3.client.delete_object(Bucket=locked, Key=marker["Key"], VersionId=marker["VersionId"])
        s3.client.delete_bucket(Bucket=locked)

    (failed,) = [each for each in findings if each.verdict is Verdict.FAILED]
    assert failed.claim == "an upload cannot be locked (object lock, legal hold)"
    assert failed.detail == "x-amz-object-lock-mode was obeyed"


@pytest.mark.parametrize("checks_signatures", [True, False])
def test_init_ends_with_1_where_uploads_can_be_forged(
    s3: S3Bucket, moto_address: S3Address, redis_url: str, checks_signatures: bool
) -> None:
    store = s3.address.endpoint_url if checks_signatures else moto_address.endpoint_url
    good = service_environment(redis_url, store, s3.bucket)
    bad = {**good, "AVION_MEDIA_S3__UPLOAD_DENY_COPY": "false"}

    def init(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "avion_media", "init"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert init(good).returncode == (0 if checks_signatures else 1)
    forged = init(bad)
    assert forged.returncode == 1
    assert f"failed: {COPY}: the upload held the other object" in forged.stderr
    if checks_signatures:
        assert "set AVION_MEDIA_S3__UPLOAD_DENY_COPY=true" in forged.stderr
    else:
        assert "this store checks no signature: it is made for development" in forged.stderr


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


async def test_a_rule_that_removes_accepted_uploads_is_a_failure(s3: S3Bucket, redis_url: str) -> None:
    """As `init` of an earlier version left it: a weekend of backlog lost the uploads."""
    config = Config(s3=s3.config(), redis=RedisConfig(url=redis_url))
    await prepare(config)
    rules = s3.client.get_bucket_lifecycle_configuration(Bucket=s3.bucket)["Rules"]
    rules[0]["Expiration"] = {"Days": 1}
    s3.client.put_bucket_lifecycle_configuration(Bucket=s3.bucket, LifecycleConfiguration={"Rules": rules})

    found = (await examined(config, Area.STORE))["no lifecycle rule removes an accepted upload before its task ends"]

    assert found.verdict is Verdict.FAILED
    assert found.detail.endswith("1 days; 16 are needed")
    assert await prepare(config)
    assert not broken(await examined(config, Area.STORE))


async def test_a_store_that_checks_no_signature_is_found_out(
    moto_address: S3Address, aws_environment: pytest.MonkeyPatch, redis_url: str
) -> None:
    for bucket in fresh_bucket(moto_address, aws_environment):
        config = Config(s3=bucket.config(), redis=RedisConfig(url=redis_url))
        await prepare(config)
        findings = await examined(config, Area.STORE)

        tags = {"what a client adds to its upload is not copied with it: tags": Verdict.WARNING}
        assert broken(findings) == dict.fromkeys(NOT_CHECKED_BY_MOTO, Verdict.FAILED) | tags
        signature = findings["a URL with a changed signature is refused"]
        assert "made for development, as the one of `avion-media dev`" in signature.otherwise
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
