"""How a CDN is told of a deletion. What real ones make of it: test_cdn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlsplit

import pytest
import trio
from structlog.testing import capture_logs

from avion_media.backends.redis import Redis
from avion_media.backends.store import ObjectInfo, ObjectStore
from avion_media.common.errors import Dependency, ObjectMissing, Unavailable
from avion_media.common.formats import JPEG
from avion_media.common.media import MediaFacts
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import Task
from avion_media.items.item import Items
from avion_media.items.settings import CdnConfig
from avion_media.workers.cdn import Cdn, purge_url
from avion_media.workers.purge import PurgeMedia
from mediathumbs import ThumbnailSize
from tests.service.published import encode_id
from tests.services.http import serving
from tests.services.process import free_port


@contextmanager
def purge_endpoint(*answers: int) -> Iterator[tuple[str, list[str]]]:
    """An endpoint with these answers, one after the other; its URL, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(answers[min(len(asked), len(answers)) - 1])
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}", asked


async def test_a_template_is_asked_for_every_path() -> None:
    media_id = encode_id(datetime.now(UTC), 2, 8)
    with purge_endpoint(200, 404) as (url, asked):
        await purge(f"{url}/purge?path={{path}}", media_id)
    thumbnail = f"/purge?path=%2Fthumbnail%2Fsmall%2F{media_id}"
    original = f"/purge?path=%2Fmedia%2F{media_id}"
    assert asked == [original, f"{original}%2Fcredentials", thumbnail, f"{thumbnail}.webp"]


class Store:
    """Has one original, of these sizes, or is away."""

    def __init__(self, sizes: tuple[str, ...] = (), *, away: bool = False) -> None:
        self._facts = MediaFacts(JPEG, 10, 4, 3, "blur", "", thumbnails=sizes)
        self._away = away

    async def head(self, key: str) -> ObjectInfo:
        await trio.lowlevel.checkpoint()
        if self._away:
            raise Unavailable(Dependency.STORE, "away")
        if not self._facts.thumbnails:
            raise ObjectMissing(key)
        return ObjectInfo(key, 10, "etag", datetime.now(UTC), "image/jpeg", self._facts.to_metadata())


async def test_sizes_that_are_not_configured_any_more_are_asked_for_as_well() -> None:
    media_id = encode_id(datetime.now(UTC), 1, 8)
    small = f"/thumbnail/small/{media_id}"
    original = f"/media/{media_id}"
    expected = [original, f"{original}/credentials", small, f"{small}.webp", f"/thumbnail/former/{media_id}"]
    with purge_endpoint(200) as (url, asked):
        await purge(url, media_id, Store(("former", "small")))
    assert asked == expected
    with purge_endpoint(200) as (url, asked):  # its original is gone, and the store not needed: the task names them
        await purge(url, media_id, Store(away=True), sizes="small,former,../x")
    assert asked == expected


async def test_a_store_that_is_away_holds_up_none_of_the_configured_sizes() -> None:
    media_id = encode_id(datetime.now(UTC), 1, 8)
    with purge_endpoint(200) as (url, asked), pytest.raises(Unavailable, match="store"):
        await purge(url, media_id, Store(away=True))
    original, small = f"/media/{media_id}", f"/thumbnail/small/{media_id}"
    assert asked == [original, f"{original}/credentials", small, f"{small}.webp"]


async def test_a_cdn_that_fails_is_asked_again() -> None:
    with purge_endpoint(200, 503) as (url, _), pytest.raises(Unavailable, match="503"):
        await purge(url, encode_id(datetime.now(UTC), 2, 9))
    with pytest.raises(Unavailable):
        await purge(f"http://127.0.0.1:{free_port()}", encode_id(datetime.now(UTC), 2, 9))


@pytest.mark.parametrize("answers", [True, False])
async def test_a_failure_is_logged_with_the_cache_and_the_path_and_no_token(answers: bool) -> None:
    media_id = encode_id(datetime.now(UTC), 2, 9)
    with purge_endpoint(503) as (url, _), capture_logs() as logged:
        cache = urlsplit(url).netloc if answers else f"127.0.0.1:{free_port()}"
        with pytest.raises(Unavailable):
            await purge(f"http://hunter2:hunter2@{cache}/{{path}}?token=hunter2", media_id)
    (line,) = logged
    assert (line["event"], line["cache"], line["object"]) == ("purge.failed", cache, f"/media/{media_id}")
    assert "hunter2" not in str(logged)


async def purge(target: str, media_id: str, store: Store | None = None, **fields: str) -> None:
    config = CdnConfig(purge_urls=(target,), purge_method="POST")
    slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    slot.fill(cast("ObjectStore", store or Store()))
    items = Items(slot, cast("Redis", SimpleNamespace(state=None)), (ThumbnailSize("small", 400),))
    handler = PurgeMedia(items, Cdn(config, items.telemetry))
    await handler.run(Task("t", {"media_id": media_id, **fields}), trio.lowlevel.checkpoint)


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("http://cache:80", "http://cache:80/media/x"),
        ("http://cache/", "http://cache/media/x"),
        ("https://cdn/purge{path}", "https://cdn/purge/media/x"),
        ("https://cdn/purge/{path}", "https://cdn/purge/media/x"),
        ("https://cdn/?url=https://a/{path}&soft=1", "https://cdn/?url=https://a/%2Fmedia%2Fx&soft=1"),
    ],
)
def test_where_to_ask(target: str, asked: str) -> None:
    assert purge_url(target, "/media/x") == asked
