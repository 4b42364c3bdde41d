"""Presigned URLs: byte for byte what botocore signs, and rules that a real store enforces."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import botocore.auth
import httpx
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from avion_media.backends.store import ObjectStore, PresignedPut, open_store
from avion_media.backends.store.presign import Presigner, SigningCredentials, upload_guard
from avion_media.common.errors import Unavailable
from tests.conftest import S3Bucket

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
BODY = b"the body of the upload"


def signed_by_botocore(
    url: str, headers: dict[str, str], credentials: SigningCredentials, *, method: str, region: str, expires_s: int
) -> str:
    request = AWSRequest(method=method, url=url, headers=headers)
    keys = Credentials(credentials.access_key, credentials.secret_key, credentials.token or None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
        botocore.auth.S3SigV4QueryAuth(keys, "s3", region, expires=expires_s).add_auth(request)
    return str(request.url)


def parameters(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, strict_parsing=True)


@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40),
    size_bytes=st.integers(0, 1 << 40),
    content_type=st.sampled_from(["image/jpeg", "video/mp4", "text/plain;  charset=utf-8"]),
    digest=st.none() | st.binary(min_size=32, max_size=32),
    token=st.sampled_from(["", "IQoJb3JpZ2lu//+=="]),
    endpoint_url=st.sampled_from(["http://127.0.0.1:9000", "https://media.example", "https://x.example/behind/a/path"]),
    guard=st.builds(
        upload_guard, st.sampled_from(["", "private", "bucket-owner-full-control"]), deny_copy=st.booleans()
    ),
)
def test_a_put_is_signed_as_botocore_signs_it(
    key: str,
    size_bytes: int,
    content_type: str,
    digest: bytes | None,
    token: str,
    endpoint_url: str,
    guard: dict[str, str],
) -> None:
    credentials = SigningCredentials("AKIDEXAMPLE", "secret/key+", token)
    presigner = Presigner(endpoint_url, "bucket-1", "eu-central-1", credentials)

    put = presigner.put(
        key,
        content_type=content_type,
        size_bytes=size_bytes,
        sha256_digest=digest,
        expires_s=900,
        now=NOW,
        guard=guard,
    )

    assert guard.items() <= put.headers.items()
    headers = {"Content-Length": str(size_bytes), **put.headers}
    url = f"{endpoint_url}/bucket-1/{quote(key, safe='/~')}"
    expected = signed_by_botocore(url, headers, credentials, method="PUT", region="eu-central-1", expires_s=900)
    assert parameters(put.url) == parameters(expected)
    assert urlsplit(put.url)[:3] == urlsplit(expected)[:3]


def test_a_get_is_signed_as_botocore_signs_it() -> None:
    credentials = SigningCredentials("AKIDEXAMPLE", "secret")
    url = Presigner("http://127.0.0.1:9000", "b", "us-east-1", credentials).get("a b", expires_s=60, now=NOW)

    expected = signed_by_botocore(
        "http://127.0.0.1:9000/b/a%20b", {}, credentials, method="GET", region="us-east-1", expires_s=60
    )
    assert parameters(url) == parameters(expected)


def test_overridden_headers_are_signed_as_botocore_signs_them() -> None:
    credentials = SigningCredentials("AKIDEXAMPLE", "secret")
    url = Presigner("http://127.0.0.1:9000", "b", "us-east-1", credentials).get(
        "a",
        expires_s=60,
        now=NOW,
        cache_control="no-store",
        content_type="image/jpeg",
        content_disposition='inline; filename="a b"',
    )

    overrides = (
        "response-cache-control=no-store&response-content-disposition=inline%3B%20filename%3D%22a%20b%22"
        "&response-content-type=image%2Fjpeg"
    )
    expected = signed_by_botocore(
        f"http://127.0.0.1:9000/b/a?{overrides}", {}, credentials, method="GET", region="us-east-1", expires_s=60
    )
    assert parameters(url) == parameters(expected)


@pytest.mark.parametrize(
    ("endpoint_url", "origin"),
    [
        ("https://media.example:443", "https://media.example"),
        ("http://media.example:80/", "http://media.example"),
        ("http://media.example:443", "http://media.example:443"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_the_host_is_signed_as_a_client_will_name_it(endpoint_url: str, origin: str) -> None:
    presigner = Presigner(endpoint_url, "b", "us-east-1", SigningCredentials("a", "b"))

    assert presigner.get("k", expires_s=1, now=NOW).startswith(f"{origin}/b/k?")


def test_the_key_of_the_day_changes_at_midnight_utc_wherever_the_caller_is() -> None:
    presigner = Presigner("http://s3", "b", "us-east-1", SigningCredentials("a", "b"))
    east = datetime(2026, 3, 5, 1, 0, tzinfo=timezone(timedelta(hours=2)))

    before = parameters(presigner.get("k", expires_s=1, now=east))
    after = parameters(presigner.get("k", expires_s=1, now=east + timedelta(hours=1)))

    assert (before["X-Amz-Date"], after["X-Amz-Date"]) == (["20260304T230000Z"], ["20260305T000000Z"])
    assert before["X-Amz-Credential"] == ["a/20260304/us-east-1/s3/aws4_request"]
    assert after["X-Amz-Credential"] == ["a/20260305/us-east-1/s3/aws4_request"]


@pytest.mark.parametrize("expires_s", [0, -1, 7 * 86400 + 1])
def test_a_lifetime_that_the_algorithm_forbids_is_refused(expires_s: int) -> None:
    presigner = Presigner("http://s3", "b", "us-east-1", SigningCredentials("a", "b"))

    with pytest.raises(ValueError, match="expires_s"):
        presigner.get("k", expires_s=expires_s, now=NOW)


# -- what Ceph makes of them


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
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

    async with open_store(s3.config(signing_profile="uploader")) as store, httpx.AsyncClient(trust_env=False) as http:
        put = store.uploads.put(
            "incoming/a", content_type="image/jpeg", size_bytes=1, expires_s=60, now=datetime.now(UTC)
        )
        refused = await http.put(put.url, content=b"x", headers=put.headers)
        await store.put("original/a", b"x", content_type="image/jpeg")
        served = await http.get(store.downloads.get("original/a", expires_s=60, now=datetime.now(UTC)))

    assert parameters(put.url)["X-Amz-Credential"][0].startswith("UPLOADER/")
    assert refused.status_code == 403  # this store does not know them: so they are what was signed with
    assert served.content == b"x"  # downloads are signed as ourselves: the uploader may not read


async def test_a_signing_profile_that_is_not_there_is_told_by_its_name(s3: S3Bucket) -> None:
    async with open_store(s3.config(signing_profile="nobody")) as store:
        with pytest.raises(Unavailable, match="nobody"):
            store.uploads.put(
                "incoming/a", content_type="image/jpeg", size_bytes=1, expires_s=60, now=datetime.now(UTC)
            )
