"""The doctor on a store that keeps every promise, on one that does not check signatures, and with nothing there."""

from __future__ import annotations

import json
import subprocess
import time
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import redis as redis_py

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.backends.settings import RedisConfig, S3Config, StatusConfig
from avion_media.common.keys import REMOTE_SECRET
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.config import Config
from avion_media.operations.doctor import Area, CheckResult, CheckStatus, examine, examine_forgeries
from avion_media.operations.setup import prepare
from avion_media.process.replicas import Replica, Replicas
from tests.conftest import S3Bucket, fresh_bucket
from tests.service.commands import run_command
from tests.service.harness import service_environment
from tests.services import S3Address, redis_server
from tests.services.faulty_gateway import faulty_gateway
from tests.services.http import serving
from tests.services.process import free_port

COPY = "rejects uploads that copy another object (x-amz-copy-source)"
OPENED = "rejects uploads that are opened to others (x-amz-acl, x-amz-grant-…)"
BOTH_SETTINGS = "AVION_MEDIA_S3__UPLOAD_DENY_COPY=true and AVION_MEDIA_S3__UPLOAD_ACL=bucket-owner-full-control"
COUNTED = "has the media that the last sweep counted"
NOT_CHECKED_BY_MOTO = {
    "rejects an upload of a different length",
    "rejects an upload of a different type",
    "rejects an upload to a different key",
    "rejects content that does not match the signed SHA-256",
    "rejects expired URLs",
    "rejects URLs with a changed signature",
    COPY,
    OPENED,
    "honours If-Match on copies",
    "honours If-Match on copies of parts",
}


async def examined(config: Config, *areas: Area) -> dict[str, CheckResult]:
    """The results by their claims, each of which was told as it came."""
    told: list[CheckResult] = []
    results = await examine(config, frozenset(areas or Area), told.append, files_needed=64)
    assert told == results
    return {result.check: result for result in results}


def broken(results: dict[str, CheckResult]) -> dict[str, CheckStatus]:
    return {check: each.status for check, each in results.items() if each.status is not CheckStatus.OK}


async def test_a_store_that_keeps_every_promise(s3: S3Bucket, redis_url: str, data_directory: Path) -> None:
    config = Config(s3=s3.config(), redis=RedisConfig(url=redis_url))
    await prepare(config)
    journal = "journal/deletions/2026/12/01/01M8QK0XS0SEPQ1YGDEF9TVZ31.json"
    entry = json.dumps(json.loads((data_directory / "records/journal.json").read_text()))
    s3.client.put_object(Bucket=s3.bucket, Key=journal, Body=f"{entry}\n{entry}\n".encode())  # as the sweep joins them

    results = await examined(config)

    assert broken(results) == {
        "persistence is on and eviction is off": CheckStatus.WARNING
    }  # the test's Redis has no file
    assert len(results) >= 29
    assert [each["Key"] for each in s3.client.list_objects_v2(Bucket=s3.bucket)["Contents"]] == [
        journal,
        REMOTE_SECRET,
    ]


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
    results = await examine_forgeries(Config(s3=s3.config(**settings)))

    failed = {each.check: each.detail for each in results if each.status is not CheckStatus.OK}
    assert failed.keys() == named.keys()
    assert all(setting in failed[check] for check, setting in named.items())
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
        results = await examine_forgeries(Config(s3=s3.config(endpoint_url=store.url)))

    accepted = next(each for each in results if each.check == "accepts presigned uploads")
    assert accepted.status is CheckStatus.FAILED
    assert accepted.detail == f"the store responded 501 Not Implemented; {takes}"


async def test_of_a_full_store_nothing_else_is_said(s3: S3Bucket) -> None:
    async with faulty_gateway(s3.address.endpoint_url) as store:
        store.full = True
        results = await examined(Config(s3=s3.config(endpoint_url=store.url)), Area.STORE)
        forgeries = await examine_forgeries(Config(s3=s3.config(endpoint_url=store.url)))

    assert broken(results) == {"takes writes": CheckStatus.FAILED}
    assert "it is full: status 403: QuotaExceeded" in results["takes writes"].detail
    assert len(results) == len(forgeries) == 2


async def test_a_bucket_in_which_uploads_can_be_locked_is_named(s3: S3Bucket) -> None:
    locked = f"{s3.bucket}-locked"
    s3.client.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    try:
        results = await examine_forgeries(Config(s3=s3.config(bucket=locked)))
    finally:
        for each in s3.client.list_object_versions(Bucket=locked).get("Versions", []):
            s3.client.delete_object(
                Bucket=locked, Key=each["Key"], VersionId=each["VersionId"], BypassGovernanceRetention=True
            )
        for marker in s3.client.list_object_versions(Bucket=locked).get("DeleteMarkers", []):
            s3.client.delete_object(Bucket=locked, Key=marker["Key"], VersionId=marker["VersionId"])
        s3.client.delete_bucket(Bucket=locked)

    (failed,) = [each for each in results if each.status is CheckStatus.FAILED]
    assert failed.check == "rejects uploads with a lock (object lock, legal hold)"
    assert failed.detail == "x-amz-object-lock-mode was accepted"


@pytest.mark.parametrize("checks_signatures", [True, False])
def test_init_ends_with_1_where_uploads_can_be_forged(
    s3: S3Bucket, moto_address: S3Address, redis_url: str, checks_signatures: bool
) -> None:
    store = s3.address.endpoint_url if checks_signatures else moto_address.endpoint_url
    good = service_environment(redis_url, store, s3.bucket)
    bad = {**good, "AVION_MEDIA_S3__UPLOAD_DENY_COPY": "false"}

    def init(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return run_command("init", environment=environment)

    assert init(good).returncode == (0 if checks_signatures else 1)
    forged = init(bad)
    assert forged.returncode == 1
    assert f"failed: {COPY}: the upload contained the other object" in forged.stderr
    if checks_signatures:
        assert "set AVION_MEDIA_S3__UPLOAD_DENY_COPY=true" in forged.stderr
    else:
        assert "this store checks no signature, like that of `avion-media dev`" in forged.stderr


async def test_whoever_stops_it_finds_the_bucket_as_it_was(s3: S3Bucket) -> None:
    seen: list[CheckResult] = []

    def read_no_further(result: CheckResult) -> None:
        seen.append(result)
        if len(seen) == 3:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await examine(Config(s3=s3.config()), frozenset({Area.STORE}), read_no_further, files_needed=0)
    assert not s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents")


async def test_a_bucket_without_rules_is_a_warning(s3: S3Bucket) -> None:
    results = await examined(Config(s3=s3.config()), Area.STORE)

    assert broken(results) == {
        "allows uploads from browsers (CORS)": CheckStatus.WARNING,
        "has lifecycle rules for incoming/": CheckStatus.WARNING,
    }


async def test_a_rule_that_removes_accepted_uploads_is_a_failure(s3: S3Bucket, redis_url: str) -> None:
    """As `init` of an earlier version left it: a weekend of backlog lost the uploads."""
    config = Config(s3=s3.config(), redis=RedisConfig(url=redis_url))
    await prepare(config)
    rules = s3.client.get_bucket_lifecycle_configuration(Bucket=s3.bucket)["Rules"]
    rules[0]["Expiration"] = {"Days": 1}
    s3.client.put_bucket_lifecycle_configuration(Bucket=s3.bucket, LifecycleConfiguration={"Rules": rules})

    found = (await examined(config, Area.STORE))["keeps accepted uploads until their tasks end (lifecycle rules)"]

    assert found.status is CheckStatus.FAILED
    assert found.detail.endswith("1 days; 16 are needed")
    assert await prepare(config)
    assert not broken(await examined(config, Area.STORE))


async def test_a_lost_bucket_is_not_replaced_by_an_empty_one_and_an_emptied_one_is_named(
    s3: S3Bucket, redis_url: str
) -> None:
    bucket = f"{s3.bucket}-lost"
    config = Config(s3=s3.config(bucket=bucket), redis=RedisConfig(url=redis_url))
    environment = service_environment(redis_url, s3.address.endpoint_url, bucket)
    with redis_py.Redis.from_url(redis_url) as client:
        client.hset("media_sweep", "stored", json.dumps({"incoming": [7, 7], "image": [3, 10], "video": [1, 10]}))

    refused = run_command("init", environment=environment)
    names = [each["Name"] for each in s3.client.list_buckets()["Buckets"]]
    missing = (await examined(config, Area.STORE))["is reachable, and the bucket exists"]
    created = run_command("init", "--new-bucket", environment=environment)
    try:
        again = run_command("init", environment=environment)
        emptied = (await examined(config, Area.STORE))[COUNTED]
        for number in range(2):
            s3.client.put_object(Bucket=bucket, Key=f"original/{number}", Body=b"")
        restored = (await examined(config, Area.STORE))[COUNTED]
    finally:
        for each in s3.client.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.client.delete_object(Bucket=bucket, Key=each["Key"])
        s3.client.delete_bucket(Bucket=bucket)

    assert (refused.returncode, created.returncode, again.returncode) == (1, 0, 0), created.stderr
    assert "the last sweep counted 4 media: follow docs/how-to/recover-a-lost-bucket.md" in refused.stderr
    assert bucket not in names
    assert "if it had media, follow docs/how-to/recover-a-lost-bucket.md" in missing.detail
    assert (emptied.status, emptied.detail) == (CheckStatus.WARNING, "0 are left of 4")
    assert "stop all replicas" in emptied.impact
    assert restored.status is CheckStatus.OK


async def test_a_store_that_checks_no_signature_is_found_out(
    moto_address: S3Address, aws_environment: pytest.MonkeyPatch, redis_url: str
) -> None:
    for bucket in fresh_bucket(moto_address, aws_environment):
        config = Config(s3=bucket.config(), redis=RedisConfig(url=redis_url))
        await prepare(config)
        results = await examined(config, Area.STORE)

        tags = {"does not copy what a client adds to its upload: tags": CheckStatus.WARNING}
        assert broken(results) == dict.fromkeys(NOT_CHECKED_BY_MOTO, CheckStatus.FAILED) | tags
        signature = results["rejects URLs with a changed signature"]
        assert "checks no signature, like that of `avion-media dev`" in signature.impact
        assert all(results[check].impact for check in NOT_CHECKED_BY_MOTO)


async def test_what_is_unavailable_is_one_result(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
    aws_environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    config = Config(
        s3=S3Config(endpoint_url=f"http://127.0.0.1:{free_port()}"),
        redis=RedisConfig(url=f"redis://127.0.0.1:{free_port()}"),
    )

    results = await examined(config, Area.STORE, Area.REDIS)

    assert list(broken(results).values()) == [CheckStatus.FAILED] * 2


async def test_a_redis_without_the_groups(redis_url: str) -> None:
    with redis_py.Redis.from_url(redis_url) as client:
        client.xgroup_create("media_cache_queue", "media_workers", mkstream=True)

    results = await examined(Config(redis=RedisConfig(url=redis_url)), Area.REDIS)

    groups = results["every queue that has entries has its consumer group"]
    assert groups.status is CheckStatus.WARNING
    assert "media_processing_queue" in groups.detail
    assert "media_cache_queue" not in groups.detail


async def test_a_redis_that_is_nearly_full_is_a_warning_and_a_full_one_a_failure(s3: S3Bucket, redis_url: str) -> None:
    with redis_server("--save", "60 1") as full_url, redis_py.Redis.from_url(full_url) as client:
        for share, status in ((0.5, CheckStatus.OK), (0.95, CheckStatus.WARNING), (2.0, CheckStatus.FAILED)):
            client.config_set("maxmemory", round(client.info("memory")["used_memory"] / share))
            config = Config(s3=s3.config(), redis=RedisConfig(url=redis_url), status=StatusConfig(redis_url=full_url))
            results = await examined(config, Area.REDIS)
            assert results["for statuses: has memory left"].status is status
            assert results["has memory left"].detail == "no maxmemory"


async def test_the_redis_for_statuses_is_examined_too(s3: S3Bucket, redis_url: str) -> None:
    with redis_server("--maxmemory-policy", "allkeys-lru", "--save", "60 1") as state_url:
        config = Config(s3=s3.config(), redis=RedisConfig(url=redis_url), status=StatusConfig(redis_url=state_url))
        _, warnings = await prepare(config)
        results = await examined(config, Area.REDIS)

    evicts = "Redis may evict keys: maxmemory-policy is allkeys-lru, should be noeviction"
    assert warnings[-1] == f"for statuses: {evicts}"
    assert results["for statuses: is reachable"].status is CheckStatus.OK
    assert broken({check: each for check, each in results.items() if check.startswith("for statuses")}) == {
        "for statuses: persistence is on and eviction is off": CheckStatus.WARNING
    }
    assert results["for statuses: persistence is on and eviction is off"].detail == evicts


async def test_of_two_redis_the_one_that_is_unavailable_is_named(redis_url: str) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    for urls, failed in (
        ((redis_url, nowhere), "for statuses: is reachable"),
        ((nowhere, redis_url), "is reachable"),
    ):
        config = Config(redis=RedisConfig(url=urls[0]), status=StatusConfig(redis_url=urls[1]))
        results = await examined(config, Area.REDIS)
        assert [each.check for each in results.values() if each.status is CheckStatus.FAILED] == [failed]


def test_the_command_says_what_fails_and_ends_with_1() -> None:
    environment = service_environment(f"redis://127.0.0.1:{free_port()}", "http://127.0.0.1:9", "avion-media")

    def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command("doctor", *arguments, environment=environment)

    table, data, misuse = doctor("redis", "sandbox"), doctor("sandbox", "--json"), doctor("weather")

    assert (table.returncode, data.returncode, misuse.returncode) == (1, 0, 2)
    assert "failed   redis  is reachable" in table.stdout
    assert "1 failed" in table.stdout
    assert {each["area"] for each in json.loads(data.stdout)} == {"sandbox"}
    assert "weather" in misuse.stderr


async def test_a_server_that_is_no_store_is_not_taken_for_a_lost_bucket(s3: S3Bucket, redis_url: str) -> None:
    with serving(SimpleHTTPRequestHandler) as port:
        address = f"http://127.0.0.1:{port}"
        elsewhere = s3.config(endpoint_url=address)
        config = Config(s3=elsewhere, redis=RedisConfig(url=redis_url))
        found = (await examined(config, Area.STORE))["is reachable, and the bucket exists"]
        refused = run_command("init", environment=service_environment(redis_url, address, s3.bucket))
    assert "not that of an S3 store" in found.detail
    assert "not that of an S3 store" in refused.stderr
    assert "recover-a-lost-bucket" not in found.detail + refused.stderr


async def test_work_that_waits_was_given_up_or_is_missed_is_named(s3: S3Bucket, redis_url: str) -> None:
    config = Config(s3=s3.config(), redis=RedisConfig(url=redis_url))
    await prepare(config)
    checks = ["no queue is paused", "no task waits for minutes", "no task was given up"]
    checks += ["every process reports itself", "no consumer misses events"]
    healthy = await examined(config, Area.REDIS)
    assert {healthy[each].status for each in checks} == {CheckStatus.OK}
    async with open_redis(redis_url) as redis:
        old = f"{int((time.time() - 600) * 1000)}-0"
        await redis.execute("XADD", PROCESSING_QUEUE, old, "task_id", "t", "media_id", "m")
        await TaskQueue(redis, CACHE_QUEUE).pause("ada", "a test")
        await redis.execute("XADD", f"{{{DELETE_QUEUE}}}:dlq", "*", "task_id", "t", "error", "poison: x")
        at = time.time() - 60
        await Replicas(redis).announce(Replica("p", "host-7", "1", ("grpc",), "READY", True, at, at))
        results = await examined(config, Area.REDIS)
        await Replicas(redis).leave("p")
    found = {each: results[each].detail for each in checks[:3]}
    assert found["no queue is paused"] == f"{CACHE_QUEUE} by ada"
    assert found["no task waits for minutes"].startswith(f"{PROCESSING_QUEUE}: 60")
    assert found["no task was given up"] == f"{DELETE_QUEUE}: 1 given up"
    assert results["every process reports itself"].detail.startswith("host-7 silent for 6")
    assert {results[each].status for each in checks[:4]} == {CheckStatus.WARNING}
    assert (await examined(config, Area.REDIS))["every process reports itself"].status is CheckStatus.OK
