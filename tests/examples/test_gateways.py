"""The three gateways: the same routes, the same errors, each built and started as its README says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import S3Bucket
from tests.examples.client import begin, put, states
from tests.examples.conftest import GATEWAYS, MAX_PENDING, Secured

PART_BYTES = 8 << 20


@pytest.fixture(scope="module", params=GATEWAYS)
def gateway(request: pytest.FixtureRequest, secured: Secured) -> Iterator[httpx.Client]:
    """A client of one gateway."""
    with (
        secured.gateway(request.param) as url,
        httpx.Client(base_url=url, trust_env=False, verify=False, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def video(data_directory: Path) -> bytes:
    """A video of 20 MiB: three parts."""
    clip = (data_directory / "mp4-h264-faststart.mp4").read_bytes()
    padding = (20 << 20) - len(clip)
    return clip + padding.to_bytes(4) + b"free" + bytes(padding - 8)


def test_a_photo_goes_by_one_put(gateway: httpx.Client, bucket: S3Bucket, data_directory: Path) -> None:
    photo = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    granted = begin(gateway, "photo.jpg", "image/jpeg", len(photo))
    assert granted["method"] == "PUT"
    assert "uploadId" not in granted
    early = gateway.post(f"/uploads/{granted['key']}/complete")
    assert (early.status_code, early.json()["reason"]) == (409, "NOTHING_UPLOADED")
    assert put(granted, photo) == 200

    completed = gateway.post(f"/uploads/{granted['key']}/complete").json()

    ready = states(gateway, granted["key"])[-1]
    assert ready["state"] == "READY"
    assert (
        httpx.get(ready["thumbnails"]["small"], trust_env=False, verify=False).headers["content-type"] == "image/jpeg"
    )
    assert httpx.get(completed["location"], trust_env=False, verify=False).status_code == 200
    owned = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=f"owner/alice/{granted['key']}")
    assert owned["KeyCount"] == 1


def test_a_video_goes_in_parts(gateway: httpx.Client, video: bytes) -> None:
    granted = begin(gateway, "film.mp4", "video/mp4", len(video))
    key, upload = granted["key"], {"uploadId": granted["uploadId"]}
    assert granted["partSize"] == PART_BYTES
    assert gateway.get(f"/uploads/{key}/parts", params=upload).json() == []
    for number in (3, 1, 2):
        signed = gateway.get(f"/uploads/{key}/parts/{number}", params=upload).json()
        assert (signed["stored"], signed["etag"]) == (False, "")
        assert put(signed, video[(number - 1) * PART_BYTES : number * PART_BYTES]) == 200
        if number == 3:
            early = gateway.post(f"/uploads/{key}/complete", params=upload)
            assert (early.status_code, early.json()["reason"]) == (409, "PARTS_MISSING")
    again = gateway.get(f"/uploads/{key}/parts/2", params=upload).json()
    assert again["stored"]
    stored = gateway.get(f"/uploads/{key}/parts", params=upload).json()
    assert [(part["PartNumber"], part["Size"]) for part in stored] == [
        (1, PART_BYTES),
        (2, PART_BYTES),
        (3, len(video) - 2 * PART_BYTES),
    ]
    assert stored[1]["ETag"] == again["etag"]

    for _ in range(2):  # a repetition is no error
        assert gateway.post(f"/uploads/{key}/complete", params=upload).status_code == 200

    assert states(gateway, key)[-1]["state"] == "READY"


def test_an_upload_is_aborted(gateway: httpx.Client, video: bytes) -> None:
    granted = begin(gateway, "film.mp4", "video/mp4", len(video))
    upload = {"uploadId": granted["uploadId"]}
    for _ in range(2):
        assert gateway.delete(f"/uploads/{granted['key']}", params=upload).status_code == 204
    assert gateway.get(f"/uploads/{granted['key']}/parts", params=upload).status_code == 404


def test_a_failure_has_a_sentence_for_people(gateway: httpx.Client) -> None:
    granted = begin(gateway, "text.png", "image/png", 5)
    assert put(granted, b"plain") == 200
    assert gateway.post(f"/uploads/{granted['key']}/complete").status_code == 200
    failed = states(gateway, granted["key"])[-1]
    assert failed["state"] == "FAILED"
    assert gateway.get("/reasons").json()[failed["reason"]] == "This type of file is not supported."


def test_refusals_say_why(gateway: httpx.Client) -> None:
    refused = gateway.post("/uploads", json={"filename": "a.jpg", "type": "image/jpeg", "size": 0})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["size"])
    assert "must be greater than zero" in refused.json()["error"]
    for body in (b"", b"not JSON", b"[]", b'{"filename": "a.jpg", "type": "image/jpeg", "size": "large"}'):
        malformed = gateway.post("/uploads", content=body, headers={"content-type": "application/json"})
        assert malformed.status_code == 400, body
    for number in ("abc", "1.5", "3000000000"):
        unnumbered = gateway.get(f"/uploads/01M88C0SJ305C5J3D3BYCKGC00/parts/{number}")
        assert (unnumbered.status_code, unnumbered.json()) == (400, {"error": "expected the number of a part"})
    forged = gateway.get("/uploads/01M88C0SJ305C5J3D3BYCKGC00/parts", params={"uploadId": "made up"})
    assert (forged.status_code, list(forged.json()["fields"])) == (400, ["upload_id"])
    assert gateway.get("/uploads/01M88C0SJ305C5J3D3BYCKGC00/events").status_code == 404


def test_too_many_uploads_have_to_wait(gateway: httpx.Client) -> None:
    begun = []
    while True:
        response = gateway.post("/uploads", json={"filename": "a.mp4", "type": "video/mp4", "size": 20 << 20})
        if response.status_code != 200:
            break
        begun.append(response.json())
        assert len(begun) <= MAX_PENDING
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    for each in begun:
        gateway.delete(f"/uploads/{each['key']}", params={"uploadId": each["uploadId"]})
