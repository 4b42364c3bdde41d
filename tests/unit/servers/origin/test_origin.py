"""The origin's decisions, on a store in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Literal

import pytest

from avion_media.common.telemetry.attributes import HTTP_ROUTE
from avion_media.servers.origin.app import CAPABILITIES as CAPABILITIES_ROUTE
from avion_media.servers.origin.app import CREDENTIALS, MEDIA, SAFETY_HEADERS, THUMBNAIL, Origin
from avion_media.servers.settings import HttpConfig
from tests.unit.servers.origin.objects import Blocks, Deletions, Objects, Slot, Tokens, request
from trio_http1 import Response
from trio_telemetry import NO_TELEMETRY

ID = "0" * 64
PATH = f"/media/{ID}"
ETAG = '"one"'
BODY = bytes(range(256)) * 4096  # 1 MiB


CAPABILITIES = {"max_image_bytes": 1 << 24, "content_types": ["image/jpeg"], "multipart": False}


@pytest.fixture
def objects() -> Objects:
    made = Objects()
    made.held[f"cached_remote/{ID}"] = BODY
    made.held[f"thumbnail/small/remote/{ID}.jpg"] = b"jpeg"
    return made


async def asked(
    objects: Objects,
    target: str,
    method: str = "GET",
    fields: Mapping[str, str] | None = None,
    *,
    deleted: bool | None = False,
    config: HttpConfig | None = None,
    blocks: Blocks | None = None,
) -> tuple[Response, bytes]:
    """The response, and its body; every response carries the safety headers."""
    known, http = Deletions(known=deleted), config or HttpConfig()
    origin = Origin(Slot(objects), known, blocks or Blocks(), NO_TELEMETRY, http, lambda: CAPABILITIES, Tokens())
    response = await origin.handle(request(target, method, **(fields or {})))
    assert {name: response.headers.get(name) for name in SAFETY_HEADERS} == SAFETY_HEADERS
    if isinstance(response.body, bytes):
        return response, response.body
    async with aclosing(response.body.windows()) as windows:
        body = b"".join([window async for window in windows if not callable(window)])
    response.body.close()
    return response, body


@pytest.mark.parametrize(
    "target",
    [
        f"/%6dedia/{ID}",
        f"/media/%30{ID[1:]}",
        f"//media/{ID}",
        f"/media//{ID}",
        f"/media/{ID}/",
        f"/media/./{ID}",
        f"/Media/{ID}",
        f"/media/{ID}%20",
        f"/thumbnail/s%6dall/{ID}",
        f"/thumbnail/small/x/{ID}",
    ],
)
async def test_another_spelling_is_no_resource(objects: Objects, target: str) -> None:
    response, _ = await asked(objects, target)
    assert (response.status, response.headers["Cache-Control"]) == (404, "public, max-age=10")
    assert not objects.reads


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_pages_of_any_site_can_read_what_may_be_uploaded(objects: Objects, method: str) -> None:
    response, body = await asked(objects, "/capabilities", method)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert response.headers["Cache-Control"] == "public, max-age=60"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert json.loads(body) == CAPABILITIES
    assert not objects.reads


def test_every_route_is_a_value_of_its_attribute() -> None:
    assert {MEDIA, CREDENTIALS, THUMBNAIL, CAPABILITIES_ROUTE} < set(HTTP_ROUTE.values)


@pytest.mark.parametrize("mode", ["proxy", "redirect", "accel"])
async def test_credentials_are_sent_in_every_mode_to_pages_of_any_site(
    objects: Objects, mode: Literal["proxy", "redirect", "accel"]
) -> None:
    objects.held[f"credentials/remote/{ID}.c2pa"] = b"manifest"
    for known, status in ((False, 200), (True, 410)):
        response, body = await asked(objects, f"{PATH}/credentials", deleted=known, config=HttpConfig(mode=mode))
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (status, "*")
        if status == 200:
            assert body == b"manifest"
            assert response.headers["Content-Type"] == "application/c2pa"
            assert response.headers["Content-Disposition"] == "attachment"
    assert "Access-Control-Allow-Origin" not in (await asked(objects, PATH))[0].headers


@pytest.mark.parametrize("query", ["?x=1", "?", "?a/../b"])
async def test_a_query_leads_to_the_path_and_is_no_resource(objects: Objects, query: str) -> None:
    response, _ = await asked(objects, PATH + query)
    assert (response.status, response.headers["Location"]) == (308, PATH)
    assert "immutable" not in response.headers["Cache-Control"]
    assert not objects.reads


@pytest.mark.parametrize("deleted", [False, None])
@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("GET", {}, 200),
        ("HEAD", {}, 200),
        ("GET", {"range": "bytes=0-9"}, 206),
        ("GET", {"if_none_match": ETAG}, 304),
    ],
)
async def test_what_may_have_been_deleted_is_not_immutable(
    objects: Objects, deleted: bool | None, method: str, fields: dict[str, str], status: int
) -> None:
    response, _ = await asked(objects, PATH, method, fields, deleted=deleted)
    assert response.status == status
    assert response.headers["Cache-Control"] == (
        "public, max-age=60" if deleted is None else "public, max-age=31536000, immutable"
    )


@pytest.mark.parametrize("mode", ["redirect", "accel"])
@pytest.mark.parametrize("deleted", [False, None])
async def test_the_stores_url_is_handed_over_with_the_time_that_it_may_be_kept(
    objects: Objects, mode: Literal["redirect", "accel"], deleted: bool | None
) -> None:
    config = HttpConfig(mode=mode, redirect_ttl=600)
    response, body = await asked(objects, f"/thumbnail/small/{ID}", deleted=deleted, config=config)
    signed = f"/bucket/thumbnail/small/remote/{ID}.jpg?600&image/jpeg&inline"
    assert (body, objects.reads) == (b"", [])
    if mode == "redirect":
        assert (response.status, response.headers["Location"]) == (307, f"https://store.example{signed}")
        assert response.headers["Cache-Control"] == f"public, max-age={60 if deleted is None else 300}"
    else:
        kept = "brief" if deleted is None else "immutable"
        assert (response.status, response.headers["X-Accel-Redirect"]) == (200, f"/_store/{kept}{signed}")
        assert "Cache-Control" not in response.headers
        assert response.headers["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize("mode", ["redirect", "accel"])
async def test_a_head_is_answered_here_in_every_mode(objects: Objects, mode: Literal["redirect", "accel"]) -> None:
    response, _ = await asked(objects, PATH, "HEAD", config=HttpConfig(mode=mode))
    assert (response.status, response.headers["Content-Length"]) == (200, str(len(BODY)))


async def test_a_tombstone_is_410_whatever_the_store_has(objects: Objects) -> None:
    for path in (PATH, "/media/01M88C0SJ305C5J3D3BYCKGE00"):
        response, _ = await asked(objects, path, deleted=True)
        assert response.status == 410
    assert not objects.reading


@pytest.mark.parametrize(
    ("fields", "status", "part"),
    [
        ({}, 200, slice(None)),
        ({"if_match": ETAG}, 200, slice(None)),
        ({"if_match": '"two"'}, 412, None),
        ({"if_unmodified_since": "Tue, 31 Dec 2024 23:59:59 GMT"}, 412, None),
        ({"if_none_match": ETAG, "range": "bytes=0-9"}, 304, None),
        ({"if_match": ETAG, "range": "bytes=5-9"}, 206, slice(5, 10)),
        ({"if_range": ETAG, "range": "bytes=5-9"}, 206, slice(5, 10)),
        ({"if_range": '"two"', "range": "bytes=5-9"}, 200, slice(None)),
        ({"range": "bytes=-300000"}, 206, slice(-300_000, None)),
        ({"range": "bytes=300000-"}, 206, slice(300_000, None)),
        ({"range": "bytes=0-1,3-4"}, 200, slice(None)),
        ({"range": "bytes=9999999-"}, 416, None),
        ({"range": "bytes=-0"}, 416, None),
    ],
)
async def test_preconditions_and_ranges(
    objects: Objects, fields: dict[str, str], status: int, part: slice | None
) -> None:
    response, body = await asked(objects, PATH, "GET", fields)
    assert response.status == status
    if part is not None:
        first, last, _ = part.indices(len(BODY))
        assert body == BODY[part]
        assert response.headers.get("Content-Range") == (
            f"bytes {first}-{last - 1}/{len(BODY)}" if status == 206 else None
        )
    if status in (412, 416):
        assert response.headers["Cache-Control"] == "no-store"


async def test_an_object_that_is_replaced_between_two_requests_is_503(objects: Objects) -> None:
    async def replace() -> None:
        objects.etags[f"cached_remote/{ID}"] = "two"

    objects.faults = [replace]
    response, _ = await asked(objects, PATH, "GET", {"if_match": ETAG})
    assert response.status == 503


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
async def test_other_methods_are_405_and_paths_come_first(objects: Objects, method: str) -> None:
    response, _ = await asked(objects, PATH, method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    response, _ = await asked(objects, "/elsewhere", method)
    assert response.status == 404


async def test_what_was_blocked_a_short_time_ago_is_451_although_its_objects_are_there(objects: Objects) -> None:
    """They were not removed yet, or a worker that stood still has written them again. Not so after an unblock."""
    for path in (PATH, f"/thumbnail/small/{ID}"):
        response, _ = await asked(objects, path, blocks=Blocks([ID], watched=[ID]))
        assert (response.status, response.headers["Cache-Control"]) == (451, "public, max-age=60")
        response, _ = await asked(objects, path, blocks=Blocks(watched=[ID]))
        assert response.status == 200


async def test_what_was_blocked_is_451_without_redis_too(objects: Objects) -> None:
    other = "1" * 64
    objects.held[f"moderation/shown/{other}"] = b""
    for deleted in (False, None):
        response, _ = await asked(objects, f"/thumbnail/large/{other}", deleted=deleted, blocks=Blocks([other]))
        assert response.status == 451
    response, _ = await asked(objects, f"/thumbnail/large/{other}")
    assert response.status == 404


async def test_of_a_remote_file_that_was_never_public_nothing_is_admitted(objects: Objects) -> None:
    """Not its block, not its deletion: the same requests to the store, with the same results, and the same answer."""
    other = "1" * 64
    for path in (f"/media/{other}", f"/media/{other}/credentials", f"/thumbnail/small/{other}"):
        for method in ("GET", "HEAD"):
            seen = []
            for deleted, blocks in ((False, Blocks()), (False, Blocks([other], [other])), (True, Blocks([other]))):
                objects.asked.clear()
                response, body = await asked(objects, path, method, deleted=deleted, blocks=blocks)
                seen.append((response.status, response.headers, body, [name for name, _ in objects.asked]))
            assert seen[0][0] == 404
            assert seen[1:] == seen[:-1]


async def test_a_remote_file_that_was_public_stays_deleted(objects: Objects) -> None:
    other = "1" * 64
    objects.held[f"gone/{other}"] = b""
    for deleted, status in ((True, 410), (False, 404)):
        response, _ = await asked(objects, f"/thumbnail/small/{other}", deleted=deleted)
        assert response.status == status
