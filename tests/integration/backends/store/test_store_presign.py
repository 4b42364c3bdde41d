"""Presigned URLs: rules that a real store enforces."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from avion_media.backends.store import ObjectStore, PresignedPut, open_store
from avion_media.common.errors import Unavailable
from tests.conftest import S3Bucket

BODY = b"the body of the upload"


# -- what Ceph makes of them


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=20) as http:
        yield http


def presigned(store: ObjectStore, *, sha256: bytes | None = None, age_s: int = 0) -> PresignedPut:
    now = datetime.now(UTC) - timedelta(seconds=age_s)
    return store.uploads.put(
        "incoming/ID", content_type="image/jpeg", size_bytes=len(BODY), sha256_digest=sha256, expires_s=60, now=now
    )


async def test_a_presigned_put_takes_what_was_promised(store: ObjectStore, client: httpx.AsyncClient) -> None:
    put = presigned(store)

    answer = await client.put(put.url, content=BODY, headers=put.headers)

    assert answer.status_code == 200
    info = await store.head("incoming/ID")
    assert (info.size_bytes, info.content_type) == (len(BODY), "image/jpeg")
    assert put.expires_at - datetime.now(UTC) < timedelta(seconds=60)


@pytest.mark.parametrize(
    ("body", "headers", "instead"),
    [
        (BODY + b"!", {}, "incoming/ID"),
        (BODY[:-1], {}, "incoming/ID"),
        (b"", {}, "incoming/ID"),
        (BODY, {"Content-Type": "text/html"}, "incoming/ID"),
        (BODY, {}, "original/ID"),
    ],
    ids=["longer", "shorter", "empty", "another type", "another key"],
)
async def test_a_put_of_anything_else_is_refused_by_the_store(
    store: ObjectStore, client: httpx.AsyncClient, body: bytes, headers: dict[str, str], instead: str
) -> None:
    put = presigned(store)

    answer = await client.put(put.url.replace("incoming/ID", instead), content=body, headers=put.headers | headers)

    assert answer.status_code == 403
    assert [page async for page in store.list("")] == []


async def test_a_body_of_another_digest_is_refused(store: ObjectStore, client: httpx.AsyncClient) -> None:
    put = presigned(store, sha256=hashlib.sha256(BODY).digest())

    assert (await client.put(put.url, content=BODY[::-1], headers=put.headers)).status_code == 400
    assert [page async for page in store.list("")] == []
    assert (await client.put(put.url, content=BODY, headers=put.headers)).status_code == 200


@pytest.mark.parametrize("dropped", ["x-amz-content-sha256", "x-amz-checksum-sha256"])
async def test_the_digest_cannot_be_left_out_or_replaced(
    store: ObjectStore, client: httpx.AsyncClient, dropped: str
) -> None:
    put = presigned(store, sha256=hashlib.sha256(BODY).digest())
    other = hashlib.sha256(BODY[::-1])
    replaced: dict[str, str] = {
        "x-amz-content-sha256": other.hexdigest(),
        "x-amz-checksum-sha256": base64.b64encode(other.digest()).decode(),
    }
    without = {name: value for name, value in put.headers.items() if name != dropped}

    assert (await client.put(put.url, content=BODY[::-1], headers=without)).status_code == 403
    assert (await client.put(put.url, content=BODY[::-1], headers=without | {dropped: replaced[dropped]})).is_error
    unsigned = without | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert (await client.put(put.url, content=BODY[::-1], headers=unsigned)).is_error
    assert [page async for page in store.list("")] == []


async def test_an_url_ends_when_it_says(store: ObjectStore, client: httpx.AsyncClient) -> None:
    put = presigned(store, age_s=120)

    assert (await client.put(put.url, content=BODY, headers=put.headers)).status_code == 403


async def test_a_presigned_get_serves_the_object_and_no_other(store: ObjectStore, client: httpx.AsyncClient) -> None:
    await store.put("a", b"a", content_type="text/plain")
    await store.put("b", b"b", content_type="text/plain")
    url = store.downloads.get("a", expires_s=60, now=datetime.now(UTC))

    assert (await client.get(url)).content == b"a"
    assert (await client.get(url.replace("/a?", "/b?"))).status_code == 403
    assert (await client.delete(url)).status_code == 403


async def test_upload_urls_can_be_signed_by_credentials_of_their_own(
    s3: S3Bucket, aws_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profiles = tmp_path / "credentials"
    profiles.write_text("[uploader]\naws_access_key_id = UPLOADER\naws_secret_access_key = unknown-to-the-store\n")
    aws_environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profiles))

    async with (
        open_store(s3.config(signing_profile="uploader")) as store,
        httpx.AsyncClient(trust_env=False, verify=False) as http,
    ):
        put = store.uploads.put(
            "incoming/a", content_type="image/jpeg", size_bytes=1, expires_s=60, now=datetime.now(UTC)
        )
        refused = await http.put(put.url, content=b"x", headers=put.headers)
        await store.put("original/a", b"x", content_type="image/jpeg")
        served = await http.get(store.downloads.get("original/a", expires_s=60, now=datetime.now(UTC)))

    assert "X-Amz-Credential=UPLOADER%2F" in put.url
    assert refused.status_code == 403  # this store does not know them: so they are what was signed with
    assert served.content == b"x"  # downloads are signed as ourselves: the uploader may not read


async def test_a_signing_profile_that_is_not_there_is_told_by_its_name(s3: S3Bucket) -> None:
    async with open_store(s3.config(signing_profile="nobody")) as store:
        with pytest.raises(Unavailable, match="nobody"):
            store.uploads.put(
                "incoming/a", content_type="image/jpeg", size_bytes=1, expires_s=60, now=datetime.now(UTC)
            )
