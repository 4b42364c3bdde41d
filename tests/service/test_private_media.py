"""Private media, as another service and a browser see them (contract, section 8)."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import httpx
import jsonschema
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import EVENT_SCHEMA, decode_id, encode_id, events_of, private_token, violations

PRIVATE_JPEG, PRIVATE_PNG = 0x80 | 1, 0x80 | 2
HIDDEN = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"PRIVATE__TTL": "2h", "PRIVATE__MAX_TTL": "1d", "THUMBNAILS__WEBP": "all"}


def picture(edge: int = 64) -> bytes:
    """Return a picture that no other is like, of about three bytes a pixel."""
    noise = io.BytesIO()
    Image.frombytes("RGB", (edge, edge), secrets.token_bytes(3 * edge * edge)).save(noise, "PNG", compress_level=0)
    return noise.getvalue()


def published(service: Service, body: bytes = b"") -> tuple[str, bytes]:
    """Upload a private picture, and return its id and its bytes once it is there."""
    body = body or picture()
    request = wire.RequestMediaUploadRequest(
        filename="a.png",
        content_type="image/png",
        size=len(body),
        owner="ada",
        visibility=wire.MEDIA_VISIBILITY_PRIVATE,
    )
    granted = service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
    assert granted.visibility == wire.MEDIA_VISIBILITY_PRIVATE
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
    return granted.media_id, body


def new_id() -> str:
    """Return the id of a private upload that is not there."""
    return encode_id(datetime.now(UTC), PRIVATE_JPEG, secrets.randbits(72))


def sign(service: Service, *media_ids: str, ttl_s: float | None = None, audience: str = "") -> dict[str, str]:
    request = wire.SignMediaUrlsRequest(media_ids=media_ids, audience=audience)
    if ttl_s is not None:
        request.ttl.FromMilliseconds(round(ttl_s * 1000))
    return dict(service.call("SignMediaUrls", request, wire.SignMediaUrlsResponse).tokens)


def token_of(service: Service, media_id: str, **details: Any) -> str:
    (token,) = sign(service, media_id, **details).values()
    return token


def revoke(service: Service, *media_ids: str, audience: str = "") -> None:
    request = wire.RevokeMediaUrlsRequest(media_ids=media_ids, audience=audience)
    service.call("RevokeMediaUrls", request, wire.RevokeMediaUrlsResponse)


def refused(response: httpx.Response, status: int, body: bytes) -> None:
    """Check that a response is a refusal, which no cache keeps and which has nothing of the file."""
    assert response.status_code == status
    assert {name: response.headers.get(name) for name in HIDDEN} == HIDDEN
    assert body[:16] not in response.content


def made(bucket: S3Bucket, media_id: str, **details: Any) -> str:
    """Make a token from the key in the bucket."""
    stored = bucket.client.get_object(Bucket=bucket.bucket, Key="secret/media-tokens")["Body"].read()
    return private_token(stored, media_id, **details)


def opened(path: str, token: str) -> str:
    return path.replace("{token}", token)


@pytest.fixture(scope="module")
def medium(service: Service) -> wire.MediaStatus:
    """A private picture that no test deletes or revokes."""
    return service.status(published(service)[0])


@pytest.fixture(scope="module")
def token(service: Service, medium: wire.MediaStatus) -> str:
    return token_of(service, medium.media_id)


def test_what_a_status_and_the_events_say(
    service: Service, redis_client: Any, medium: wire.MediaStatus, bucket: S3Bucket
) -> None:
    media_id = medium.media_id
    assert decode_id(media_id).format_code == PRIVATE_PNG
    assert medium.visibility == wire.MEDIA_VISIBILITY_PRIVATE
    assert (medium.owner, medium.path) == ("ada", f"/media/{media_id}/{{token}}")
    assert medium.thumbnails["small"] == f"/thumbnail/small/{media_id}/{{token}}"
    assert medium.thumbnails["small.webp"] == f"/thumbnail/small/{media_id}/{{token}}.webp"
    (event,) = events_of(redis_client, media_id)
    jsonschema.validate(event, EVENT_SCHEMA)
    assert event["visibility"] == "private"
    assert not event.keys() & {"owner", "path", "thumbnails", "blurhash"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(event | {"path": medium.path}, EVENT_SCHEMA)
    listed = service.call("ListOwnerMedia", wire.ListOwnerMediaRequest(owner="ada"), wire.ListOwnerMediaResponse).media
    assert {each.visibility for each in listed if each.media_id == media_id} == {wire.MEDIA_VISIBILITY_PRIVATE}
    assert service.call("GetCapabilities", wire.GetCapabilitiesRequest(), wire.Capabilities).private_media
    public = service.request_upload("a.png", "image/png", 7)
    assert public.visibility == wire.MEDIA_VISIBILITY_PUBLIC


def test_one_token_opens_all_files_of_one_item(service: Service, medium: wire.MediaStatus, token: str) -> None:
    small = opened(medium.thumbnails["small"], token)
    types = {opened(medium.path, token): "image/png", small: "image/jpeg", f"{small}.webp": "image/webp"}
    for path, content_type in types.items():
        got = service.get(path)
        assert (got.status_code, got.headers["Content-Type"]) == (200, content_type)
        assert got.headers["Cache-Control"] == "private, max-age=60"
        assert got.headers["Referrer-Policy"] == "no-referrer"
        assert got.headers["X-Robots-Tag"] == "noindex"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        head = httpx.head(service.http_url + path, trust_env=False, verify=False)
        assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", got.headers["ETag"])
        part = service.get(path, Range="bytes=2-5")
        assert (part.status_code, part.content) == (206, got.content[2:6])
        known = service.get(path, If_None_Match=got.headers["ETag"])
        assert (known.status_code, known.headers["Cache-Control"]) == (304, "private, max-age=60")
        beyond = service.get(path, Range="bytes=999999-")
        assert (beyond.status_code, beyond.headers["Cache-Control"]) == (416, "no-store")
    # There is no manifest beside this file.
    assert service.get(f"/media/{medium.media_id}/{token}/credentials").status_code == 404


def test_the_answers_in_their_order(service: Service, bucket: S3Bucket) -> None:
    (media_id, body), (other_id, _) = published(service), published(service)
    path = f"/media/{media_id}"
    good, other = token_of(service, media_id), token_of(service, other_id)
    short, expired = made(bucket, media_id, expires_in_s=5), made(bucket, media_id, expires_in_s=-1)
    assert service.get(f"{path}/{good}").status_code == 200
    assert int(service.get(f"{path}/{short}").headers["Cache-Control"].removeprefix("private, max-age=")) <= 5
    refused(service.get(f"{path}/{expired}"), 403, body)
    forged = {
        f"{path}/{other}": "a token of another media item",
        f"{path}/{good[:-1]}": "cut",
        f"{path}/{good}A": "longer",
        f"{path}/{good[:-1]}%41": "another spelling",
        f"{path}/{made(bucket, media_id, purpose='upload')}": "another purpose",
        f"{path}/{good}/": "another path",
        f"{path}/{good}.webp": "no thumbnail",
        f"{path}/{good}?x=1": "a query",
        f"{path}/{expired}?": "a query",
        f"/thumbnail/Small/{media_id}/{good}": "no size",
        f"/thumbnail/small/{media_id}.webp/{good}": "another spelling",
        path: "without a token",
        f"{path}/credentials": "without a token",
        f"/thumbnail/small/{media_id}": "without a token",
        f"/thumbnail/small/{media_id}.webp": "without a token",
    }
    for wrong, why in forged.items():
        response = service.get(wrong)
        assert response.status_code == 404, why
        assert b"PNG" not in response.content, why
        assert response.headers["Cache-Control"] == "no-store", why
    public = service.upload("a.png", "image/png", picture())
    assert service.get(f"{public.path}/{good}").status_code == 404

    block = wire.BlockMediaRequest(media_id=media_id)
    service.call("BlockMedia", block, wire.BlockMediaResponse)
    refused(service.get(f"{path}/{good}"), 451, body)
    refused(service.get(f"{path}/{expired}"), 403, body)
    service.call("DeleteMedia", wire.DeleteMediaRequest(media_ids=[media_id]), wire.DeleteMediaResponse)
    refused(service.get(f"{path}/{good}"), 410, body)
    refused(service.get(f"{path}/{expired}"), 410, body)
    revoke(service, media_id)
    refused(service.get(f"{path}/{good}"), 403, body)
    refused(service.get(f"{path}/{expired}"), 403, body)
    assert sign(service, media_id, other_id).keys() == {other_id}
    assert service.get(f"{path}/{other}").status_code == 404


def test_a_revocation_survives_the_loss_of_redis(service: Service, redis_client: Any, bucket: S3Bucket) -> None:
    media_id, body = published(service)
    path = f"/media/{media_id}"
    mine, theirs, anyones = (token_of(service, media_id, audience=each) for each in ("ada", "bob", ""))
    revoke(service, media_id, audience="ada")
    refused(service.get(f"{path}/{mine}"), 403, body)
    assert [service.get(f"{path}/{each}").status_code for each in (theirs, anyones)] == [200, 200]
    again = token_of(service, media_id, audience="ada")
    assert service.get(f"{path}/{again}").status_code == 200

    redis_client.flushall()
    assert service.get(f"{path}/{mine}").status_code in (403, 503)
    assert eventually(lambda: service.get(f"{path}/{mine}").status_code == 403, "the revocations are restored")
    assert [service.get(f"{path}/{each}").status_code for each in (theirs, again)] == [200, 200]

    revoke(service, media_id)
    revoke(service, media_id)
    for each in (mine, theirs, anyones, again):
        refused(service.get(f"{path}/{each}"), 403, body)
    assert service.get(f"{path}/{token_of(service, media_id, audience='ada')}").status_code == 200
    record = json.loads(bucket.client.get_object(Bucket=bucket.bucket, Key=f"private/{media_id}")["Body"].read())
    assert (record["v"], record["all"], record["audiences"]) == (1, record["generation"], {})


def test_a_response_that_has_begun_is_completed(service: Service) -> None:
    media_id, body = published(service, picture(2200))
    path = f"/media/{media_id}/{token_of(service, media_id)}"
    with httpx.stream("GET", service.http_url + path, trust_env=False, verify=False, timeout=30) as response:
        pieces = response.iter_raw()
        got = next(pieces)
        assert len(got) < len(body) / 4
        revoke(service, media_id)
        refused(service.get(path), 403, body)
        got += b"".join(pieces)
    assert got == body


def test_without_redis_nothing_is_served(
    service: Service, redis_client: Any, medium: wire.MediaStatus, token: str
) -> None:
    path = opened(medium.path, token)
    redis_client.client_pause(1500)
    refused(service.get(path), 503, b"\x89PNG")
    eventually(lambda: service.get(path).status_code == 200, "Redis is back")


REQUESTS_OF_EACH = int(os.environ.get("AVION_TOKENS_OF_EACH", "500"))
METHODS: tuple[tuple[str, dict[str, str]], ...] = (
    ("GET", {}),
    ("HEAD", {}),
    ("GET", {"Range": "bytes=0-15"}),
    ("GET", {"If-None-Match": '"x"'}),
)


def test_thousands_of_tokens_open_nothing(service: Service, redis_client: Any, bucket: S3Bucket) -> None:
    """Wrong, swapped, cut, expired and revoked ones; 503 for the last two while Redis is away."""
    (media_id, body), (other_id, _) = published(service), published(service)
    revoked = [token_of(service, media_id, audience=f"{number}") for number in range(20)]
    revoke(service, media_id)
    generation = json.loads(bucket.client.get_object(Bucket=bucket.bucket, Key=f"private/{media_id}")["Body"].read())[
        "generation"
    ]
    good = made(bucket, media_id, generation=generation)
    assert service.get(f"/media/{media_id}/{good}").status_code == 200
    other = made(bucket, other_id, generation=generation)
    flipped = [bytearray(base64.urlsafe_b64decode(good)) for _ in range(36 * 8)]
    for bit, text in enumerate(flipped):
        text[bit // 8] ^= 1 << bit % 8
    expired = [made(bucket, media_id, generation=generation, expires_in_s=-each) for each in range(1, 21)]
    tokens: dict[str, tuple[Sequence[str], int, int]] = {
        "wrong": ([base64.urlsafe_b64encode(each).decode() for each in flipped], 404, 404),
        "swapped": ([other], 404, 404),
        "cut": ([good[:length] for length in range(1, 48)], 404, 404),
        "expired": (expired, 403, 503),
        "revoked": (revoked, 403, 503),
    }
    paths = (f"/media/{media_id}/{{}}", f"/thumbnail/small/{media_id}/{{}}", f"/thumbnail/small/{media_id}/{{}}.webp")
    connection = http.client.HTTPConnection(service.http_url.removeprefix("http://"), timeout=30)
    answers = Counter[tuple[str, int]]()

    def ask(kind: str, token: str, number: int) -> None:
        method, headers = METHODS[number % len(METHODS)]
        connection.request(method, paths[number % len(paths)].format(token), headers=headers)
        response = connection.getresponse()
        found = response.read()
        answers[kind, response.status] += 1
        assert response.headers["Cache-Control"] == "no-store"
        assert len(found) < 100
        assert body[:16] not in found

    for kind, (texts, _, _) in tokens.items():
        for number in range(REQUESTS_OF_EACH):
            ask(kind, texts[number % len(texts)], number)
    assert answers == {(kind, status): REQUESTS_OF_EACH for kind, (_, status, _) in tokens.items()}
    answers.clear()
    for kind, (texts, _, away) in tokens.items():
        redis_client.client_pause(1500)
        ask(kind, texts[0], 0)
        assert answers[kind, away] == 1
        redis_client.client_unpause()
    redis_client.client_pause(1500)
    ask("valid", good, 0)
    assert answers["valid", 503] == 1
    redis_client.client_unpause()
    connection.close()


def test_a_rotated_key_verifies(service: Service, medium: wire.MediaStatus, token: str, bucket: S3Bucket) -> None:
    rotated = service.run_cli("tokens", "rotate", "--json")
    assert json.loads(rotated.stdout) == {"number": 2}
    assert service.get(opened(medium.path, token)).status_code == 200
    assert base64.urlsafe_b64decode(token_of(service, medium.media_id))[0] == 1
    assert base64.urlsafe_b64decode(made(bucket, medium.media_id))[0] == 2
    eventually(
        lambda: service.get(opened(medium.path, made(bucket, medium.media_id))).status_code == 200,
        "the replica reads a key that another process has added",
    )


def test_a_thousand_ids_and_the_lifetime(service: Service) -> None:
    media_ids = [new_id() for _ in range(1000)]
    tokens = sign(service, *media_ids)
    assert tokens.keys() == {*media_ids}
    assert {len(each) for each in tokens.values()} == {48}
    assert service.get(f"/media/{media_ids[0]}/{tokens[media_ids[0]]}").status_code == 404
    for ttl_s, lives_s in ((None, 7200), (1, 1), (86_400, 86_400)):
        expires = int.from_bytes(base64.urlsafe_b64decode(token_of(service, media_ids[0], ttl_s=ttl_s))[1:5])
        assert 0 <= expires - time.time() - lives_s + 2 <= 4


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"media_ids": []}, {"media_ids": "MEDIA_IDS_REQUIRED"}),
        ({"media_ids": [new_id()] * 1001}, {"media_ids": "MEDIA_IDS_TOO_MANY"}),
        ({"media_ids": [new_id(), "x"]}, {"media_ids[1]": "MEDIA_ID_MALFORMED"}),
        ({"media_ids": [encode_id(datetime.now(UTC), 1, 7)]}, {"media_ids[0]": "MEDIA_ID_NOT_PRIVATE"}),
        ({"media_ids": ["0" * 64]}, {"media_ids[0]": "MEDIA_ID_NOT_PRIVATE"}),
        ({"media_ids": [new_id()], "audience": "a b"}, {"audience": "AUDIENCE_INVALID"}),
        ({"media_ids": [new_id()], "audience": "a" * 256}, {"audience": "AUDIENCE_INVALID"}),
        ({"media_ids": [new_id()], "ttl": Duration(nanos=999_999_999)}, {"ttl": "TTL_OUT_OF_RANGE"}),
        ({"media_ids": [new_id()], "ttl": Duration(seconds=86_401)}, {"ttl": "TTL_OUT_OF_RANGE"}),
    ],
)
def test_refused_requests(service: Service, request_: dict[str, Any], reason: dict[str, str]) -> None:
    methods: list[tuple[str, Any, Any]] = [("SignMediaUrls", wire.SignMediaUrlsRequest, wire.SignMediaUrlsResponse)]
    if "ttl" not in request_:
        methods.append(("RevokeMediaUrls", wire.RevokeMediaUrlsRequest, wire.RevokeMediaUrlsResponse))
    for method, request, response in methods:
        with pytest.raises(grpc.RpcError) as caught:
            service.call(method, request(**request_), response)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert violations(caught.value) == reason


def test_an_unknown_visibility_is_refused(service: Service) -> None:
    request = wire.RequestMediaUploadRequest(filename="a.png", content_type="image/png", size=7, visibility=3)  # type: ignore[arg-type]
    with pytest.raises(grpc.RpcError) as caught:
        service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
    assert violations(caught.value) == {"visibility": "VISIBILITY_UNKNOWN"}


def test_no_token_in_logs_and_reports(service: Service, medium: wire.MediaStatus, token: str) -> None:
    assert service.get(opened(medium.path, token)).status_code == 200
    known = service.run_cli("inspect", medium.media_id, "--json")
    assert json.loads(known.stdout)["visibility"] == "private"
    metrics = service.metrics()
    assert 'http_route="/media/{id}/{token}"' in metrics
    for text in (service.log(), known.stdout, metrics):
        assert token not in text
