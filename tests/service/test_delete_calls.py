"""DeleteMedia and UndeleteMedia, as another service calls them."""

from __future__ import annotations

import io
import secrets
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import encode_id, error_reason, events_of, key_of, keys_of, violations

DAY_S = 86_400
JPEG = 1
DELAYED = "{media_delete_queue}:delayed"


def new_id() -> str:
    """Return the id of an upload that is not there."""
    return encode_id(datetime.now(UTC), JPEG, secrets.randbits(72))


def delete(service: Service, *media_ids: str, delay_s: float | None = None, owner: str = "") -> list[str]:
    """Return the media that the owner does not have."""
    request = wire.DeleteMediaRequest(media_ids=media_ids, owner=owner)
    if delay_s is not None:
        request.delay.FromMilliseconds(round(delay_s * 1000))
    return list(service.call("DeleteMedia", request, wire.DeleteMediaResponse).not_owned)


def undelete(service: Service, *media_ids: str) -> dict[str, list[str]]:
    """Return the fields of the response that have ids."""
    request = wire.UndeleteMediaRequest(media_ids=media_ids)
    response = service.call("UndeleteMedia", request, wire.UndeleteMediaResponse)
    return {field.name: list(value) for field, value in response.ListFields()}


def published(service: Service, owner: str = "") -> str:
    """Upload a picture that no other is like, and return its id once it is public."""
    noise = io.BytesIO()
    Image.frombytes("RGB", (64, 64), secrets.token_bytes(3 * 64 * 64)).save(noise, "PNG")
    body = noise.getvalue()
    granted = service.request_upload("a.png", "image/png", len(body), owner=owner)
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
    return str(granted.media_id)


def test_it_is_deleted_when_the_call_returns(service: Service, bucket: S3Bucket, redis_client: Any) -> None:
    media_id = published(service)
    path = f"/media/{media_id}"

    def journal() -> int:
        """Return the number of entries that name it: the sweep's leader may join objects at any time."""
        listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix="journal/deletions/").get("Contents", ())
        read = bucket.client.get_object
        bodies = (read(Bucket=bucket.bucket, Key=each["Key"])["Body"].read() for each in listed)
        return sum(media_id.encode() in line for body in bodies for line in body.split(b"\n"))

    before = journal()
    assert delete(service, media_id, media_id) == []
    assert service.get(path).status_code == 410
    assert service.status(media_id).state == wire.MediaStatus.DELETED
    assert journal() == before + 1

    assert undelete(service, media_id) == {"restored": [media_id]}
    assert undelete(service, media_id) == {"restored": [media_id]}
    assert service.get(path).status_code == 200

    assert delete(service, media_id) == []
    assert service.get(path).status_code == 410
    redis_client.flushall()
    assert service.get(path).status_code in (410, 503)
    assert eventually(lambda: service.get(path).status_code == 410, "the journal is replayed")


def test_only_media_of_the_owner(service: Service, bucket: S3Bucket, redis_client: Any) -> None:
    mine, other, nobodys = (published(service, owner) for owner in ("ada", "bob", ""))
    blocked = published(service, "ada")
    block = wire.BlockMediaRequest(media_id=blocked)
    service.call("BlockMedia", block, wire.BlockMediaResponse)
    uploaded = service.request_upload("a.jpg", "image/jpeg", 7, owner="ada")
    assert service.put(uploaded, b"no jpeg").status_code == 200
    unknown, remote = new_id(), "0" * 64

    others = [other, nobodys, unknown, remote]
    assert delete(service, *others, mine, uploaded.media_id, blocked, owner="ada") == others
    assert service.get(f"/media/{other}").status_code == 200
    assert service.get(f"/media/{mine}").status_code == 410
    states = [service.status(each).state for each in (mine, uploaded.media_id, blocked)]
    assert states == [wire.MediaStatus.DELETED] * 3

    assert delete(service, mine, delay_s=0) == []
    eventually(lambda: "media.deleted" in [each["type"] for each in events_of(redis_client, mine)], "it is removed")
    assert not keys_of(bucket, mine)
    assert delete(service, mine, owner="ada") == []
    assert undelete(service, mine, blocked, unknown) == {
        "gone": [mine],
        "blocked": [blocked],
        "not_deleted": [unknown],
    }


def test_the_earlier_due_time_is_valid(service: Service, redis_client: Any) -> None:
    media_id = new_id()

    def due() -> tuple[float, int]:
        record = redis_client.hget(key_of("media_deletion", media_id), "due")
        ((_, score),) = [each for each in redis_client.zrange(DELAYED, 0, -1, withscores=True) if media_id in each[0]]
        assert score == pytest.approx(int(record) / 1000)
        return score, int(record)

    delete(service, media_id)
    in_a_day = due()
    delete(service, media_id, delay_s=3600)
    in_an_hour = due()
    delete(service, media_id, delay_s=DAY_S)
    assert due() == in_an_hour
    assert in_a_day[0] - in_an_hour[0] == pytest.approx(DAY_S - 3600, abs=60)


def test_a_thousand_ids(service: Service) -> None:
    media_ids = [new_id() for _ in range(1000)]
    assert delete(service, *media_ids) == []
    assert service.status(media_ids[-1]).state == wire.MediaStatus.DELETED
    newer = encode_id(datetime.now(UTC), 250, 7)
    assert delete(service, newer) == []
    with pytest.raises(grpc.RpcError) as caught:
        undelete(service, newer)
    assert (caught.value.code(), error_reason(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "UNREADABLE_RECORD")


MALFORMED = {"media_ids[1]": "MEDIA_ID_MALFORMED"}


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"media_ids": []}, {"media_ids": "MEDIA_IDS_REQUIRED"}),
        ({"media_ids": ["0" * 64] * 1001}, {"media_ids": "MEDIA_IDS_TOO_MANY"}),
        ({"media_ids": ["", "cat"]}, MALFORMED),
        ({"media_ids": ["", "0" * 63]}, MALFORMED),
        ({"media_ids": ["", ""]}, MALFORMED),
        ({"media_ids": [""], "owner": "a b"}, {"owner": "OWNER_INVALID"}),
        ({"media_ids": [""], "delay": Duration(seconds=DAY_S + 1)}, {"delay": "DELAY_OUT_OF_RANGE"}),
        ({"media_ids": [""], "delay": Duration(nanos=-1)}, {"delay": "DELAY_OUT_OF_RANGE"}),
    ],
)
def test_a_refused_call_deletes_nothing(service: Service, fields: dict[str, Any], refused: dict[str, str]) -> None:
    present = service.request_upload("a.jpg", "image/jpeg", 7).media_id
    ids = [present if not number else each for number, each in enumerate(fields["media_ids"])]
    request = wire.DeleteMediaRequest(**{**fields, "media_ids": ids})
    with pytest.raises(grpc.RpcError) as caught:
        service.call("DeleteMedia", request, wire.DeleteMediaResponse)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(caught.value) == refused
    assert service.status(present).state == wire.MediaStatus.PENDING_UPLOAD
