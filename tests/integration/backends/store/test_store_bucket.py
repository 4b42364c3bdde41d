"""What `init` makes of a bucket."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from avion_media.backends.store import Lives, open_store
from avion_media.common.errors import Unavailable
from tests.conftest import S3Bucket

DAY_S = 86_400.0
INCOMING_S = 16 * DAY_S
LIVES = Lives(INCOMING_S, DAY_S)


async def test_everything_missing_is_created_once(either_s3: S3Bucket) -> None:
    either_s3.client.delete_bucket(Bucket=either_s3.bucket)

    async with open_store(either_s3.config()) as store:
        with pytest.raises(Unavailable, match="init"):
            await store.put("a", b"", content_type="text/plain")
        with pytest.raises(Unavailable, match="init"):
            await store.ping()
        assert not store.state.is_available
        created = await store.ensure_bucket(LIVES)
        again = await store.ensure_bucket(LIVES)
        await store.ping()

    assert [each.partition(" ")[0] for each in created] == ["bucket", "CORS", "lifecycle", "public-access"]
    assert again == []


async def test_rules_of_others_are_kept_and_ours_are_brought_up_to_date(either_s3: S3Bucket) -> None:
    client, bucket = either_s3.client, either_s3.bucket
    client.put_bucket_cors(
        Bucket=bucket,
        CORSConfiguration={
            "CORSRules": [{"ID": "theirs", "AllowedMethods": ["GET"], "AllowedOrigins": ["https://a.example"]}]
        },
    )
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [
                _expiry("theirs", "logs/", 30),
                _expiry("avion-media-incoming", "incoming/", 1),
                _expiry("avion-media-quarantine", "quarantine/", 365),
            ]
        },
    )

    async with open_store(either_s3.config()) as store:
        assert len(await store.ensure_bucket(LIVES)) == 3
        assert await store.ensure_bucket(LIVES) == []

    origins = [rule["AllowedOrigins"] for rule in client.get_bucket_cors(Bucket=bucket)["CORSRules"]]
    rules = {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert sorted(origins) == [["*"], ["https://a.example"]]
    assert rules["theirs"]["Expiration"]["Days"] == 30
    assert rules["avion-media-incoming"]["Expiration"]["Days"] == 16
    assert "avion-media-quarantine" not in rules  # evidence ends by its record
    assert rules["avion-media-multipart"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1


async def test_what_strangers_are_shut_out_of_stays_usable_by_the_service(either_s3: S3Bucket) -> None:
    """Ceph 18 refuses every PutObject with BlockPublicAcls: what others set is kept, but it is not set here."""
    client, bucket = either_s3.client, either_s3.bucket
    async with open_store(either_s3.config()) as store:
        await store.ensure_bucket(LIVES)
        await store.put("a", b"a", content_type="text/plain")
        assert await store.read("a", max_bytes=1) == b"a"

    block = client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert block == {
        "BlockPublicAcls": False,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }


async def test_an_object_with_a_public_acl_stays_private(s3: S3Bucket) -> None:
    async with (
        open_store(s3.config()) as store,
        httpx.AsyncClient(trust_env=False, verify=False, timeout=20) as stranger,
    ):
        s3.client.put_object(Bucket=s3.bucket, Key="a", Body=b"a", ACL="public-read")
        url = f"{s3.address.endpoint_url}/{s3.bucket}/a"
        before = await stranger.get(url)
        await store.ensure_bucket(LIVES)
        after = await stranger.get(url)

    assert (before.status_code, after.status_code) == (200, 403)


@pytest.mark.parametrize(
    ("prefix", "days", "is_early"),
    [("incoming/", 1, True), ("", 15, True), ("incoming/0", 1, True), ("incoming/", 16, False), ("logs/", 1, False)],
)
async def test_a_rule_that_removes_accepted_uploads_is_found_whoever_made_it(
    either_s3: S3Bucket, prefix: str, days: int, is_early: bool
) -> None:
    either_s3.client.put_bucket_lifecycle_configuration(
        Bucket=either_s3.bucket, LifecycleConfiguration={"Rules": [_expiry("theirs", prefix, days)]}
    )
    async with open_store(either_s3.config()) as store:
        early = await store.early_expirations("incoming/", INCOMING_S)
        assert early == ([f"theirs: {days} days"] if is_early else [])
        await store.ensure_bucket(LIVES)
        assert await store.early_expirations("incoming/", INCOMING_S) == early


@pytest.mark.parametrize(
    ("prefix", "days", "is_found"),
    [("quarantine/", 5000, True), ("", 15, True), ("quarantine/0", 1, True), ("incoming/", 16, False)],
)
async def test_every_rule_that_removes_evidence_is_found(
    either_s3: S3Bucket, prefix: str, days: int, is_found: bool
) -> None:
    either_s3.client.put_bucket_lifecycle_configuration(
        Bucket=either_s3.bucket, LifecycleConfiguration={"Rules": [_expiry("theirs", prefix, days)]}
    )
    async with open_store(either_s3.config()) as store:
        early = await store.early_expirations("quarantine/", math.inf)
    assert early == ([f"theirs: {days} days"] if is_found else [])


async def test_a_browser_on_any_site_may_put_with_the_signed_headers(s3: S3Bucket) -> None:
    async with open_store(s3.config()) as store:
        await store.ensure_bucket(LIVES)
        put = store.uploads.put(
            "incoming/a",
            content_type="image/png",
            size_bytes=1,
            sha256_digest=bytes(32),
            expires_s=60,
            now=datetime.now(UTC),
        )
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=20) as browser:
        preflight = await browser.options(
            put.url,
            headers={
                "Origin": "https://social.example",
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": ",".join(sorted(name.lower() for name in put.headers)),
            },
        )

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] in ("*", "https://social.example")
    assert "PUT" in preflight.headers["access-control-allow-methods"]


def _expiry(name: str, prefix: str, days: int) -> Any:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}
