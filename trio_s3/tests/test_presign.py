"""Presigned URLs: byte for byte what botocore signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from trio_s3 import Presigner, SigningCredentials, upload_guard

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


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
        metadata={"owner": ""},
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
