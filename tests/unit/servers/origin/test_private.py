"""The origin's answers about private media, in its three modes, on a store in memory."""

from __future__ import annotations

from typing import Literal

import pytest

from avion_media.common import keys
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.media import CredentialsState, MediaFacts
from avion_media.items.private.access import Refusal
from avion_media.servers.origin.app import Origin, target_of
from avion_media.servers.settings import HttpConfig
from tests.unit.servers.origin.objects import Blocks, Deletions, Objects, Slot, Tokens, request
from trio_http1 import Response
from trio_telemetry import NO_TELEMETRY

MEDIUM = new_media_id(JPEG, 1_790_000_000_000, lambda _bits: 7, private=True)
PUBLIC = new_media_id(JPEG, 1_790_000_000_000, lambda _bits: 7)
TOKEN = "T" * 48
PATHS = {
    f"/media/{MEDIUM}/{TOKEN}": keys.original(MEDIUM),
    f"/media/{MEDIUM}/{TOKEN}/credentials": keys.credentials(MEDIUM),
    f"/thumbnail/small/{MEDIUM}/{TOKEN}": keys.thumbnail(MEDIUM, "small"),
    f"/thumbnail/small/{MEDIUM}/{TOKEN}.webp": keys.thumbnail(MEDIUM, "small.webp"),
}


async def asked(
    path: str,
    known: int | Refusal | None = 3600,
    mode: Literal["proxy", "redirect", "accel"] = "proxy",
    cdn_max_age_s: float = 0.0,
    blocks: Blocks | None = None,
    method: str = "GET",
) -> Response:
    """The response; every response about private media carries their headers."""
    objects = Objects()
    facts = MediaFacts(JPEG, 7, 4, 4, "hash", "", credentials=CredentialsState.BESIDE_FILE)
    objects.metadata = facts.to_metadata()
    objects.held = dict.fromkeys((*PATHS.values(), keys.original(PUBLIC)), b"private")
    config, tokens = HttpConfig(mode=mode, redirect_ttl=3600), Tokens(known)
    origin = Origin(
        Slot(objects), Deletions(known=False), blocks or Blocks(), NO_TELEMETRY, config, dict, tokens,
        links_credentials=True, cdn_max_age_s=cdn_max_age_s,
    )  # fmt: skip
    response = await origin.handle(request(path, method))
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Robots-Tag"] == "noindex"
    if not isinstance(response.body, bytes):
        response.body.close()
    return response


def test_each_file_has_one_path_with_a_token() -> None:
    for path, key in PATHS.items():
        target = target_of(path)
        assert target is not None
        assert (target.key, target.token, target.any_id) == (key, TOKEN, MEDIUM)
        assert target_of(path.replace(f"/{TOKEN}", "")) is None
        assert target_of(path.replace(MEDIUM.text, PUBLIC.text)) is None
        assert target_of(path.replace(MEDIUM.text, "0" * 64)) is None
        assert target_of(path.replace(MEDIUM.text, f"{MEDIUM}.webp")) is None


@pytest.mark.parametrize("path", PATHS, ids=["original", "credentials", "thumbnail", "webp"])
@pytest.mark.parametrize(
    ("known", "status"),
    [
        (3600, 200),
        (Refusal.FORGED, 404),
        (Refusal.REVOKED, 403),
        (Refusal.DELETED, 410),
        (Refusal.EXPIRED, 403),
        (None, 503),
    ],
)
async def test_a_token_decides(path: str, known: int | Refusal | None, status: int) -> None:
    for method in ("GET", "HEAD"):
        response = await asked(path, known, method=method)
        assert response.status == status
        assert response.headers["Cache-Control"] == ("private, max-age=60" if status == 200 else "no-store")
        assert status == 200 or b"private" not in bytes(response.body)  # type: ignore[arg-type]


async def test_a_block_comes_last() -> None:
    blocks = Blocks({MEDIUM.text}, {MEDIUM.text})
    for known, status in ((3600, 451), (Refusal.EXPIRED, 403)):
        response = await asked(f"/media/{MEDIUM}/{TOKEN}", known, blocks=blocks)
        assert (response.status, response.headers["Cache-Control"]) == (status, "no-store")


@pytest.mark.parametrize(
    ("left_s", "cdn_max_age_s", "kept_s", "by_cdn"),
    [(3600, 0, 60, ""), (7, 0, 7, ""), (3600, 30, 60, "max-age=30"), (7, 30, 7, "max-age=7")],
)
async def test_no_cache_keeps_it_beyond_its_token(left_s: int, cdn_max_age_s: float, kept_s: int, by_cdn: str) -> None:
    """And none but the browser's and the operator's own CDN: another server of this software obeys ``private``."""
    response = await asked(f"/media/{MEDIUM}/{TOKEN}", left_s, cdn_max_age_s=cdn_max_age_s)
    assert response.headers["Cache-Control"] == f"private, max-age={kept_s}"
    assert response.headers.get("CDN-Cache-Control", "") == by_cdn
    moved = await asked(f"/media/{MEDIUM}/{TOKEN}", left_s, "redirect", cdn_max_age_s=cdn_max_age_s)
    assert moved.headers["Location"].endswith(f"&private, max-age={kept_s}")
    assert response.headers["Link"] == f'</media/{MEDIUM}/{TOKEN}/credentials>; rel="c2pa-manifest"'


async def test_no_url_of_the_store_outlives_a_revocation_by_more_than_a_minute() -> None:
    path = f"/media/{MEDIUM}/{TOKEN}"
    for left_s, ttl_s in ((3600, 60), (7, 7), (1, 1)):
        moved = await asked(path, left_s, "redirect")
        assert (moved.status, moved.headers["Cache-Control"]) == (307, f"private, max-age={ttl_s // 2}")
        assert f"?{ttl_s}&" in moved.headers["Location"]
        assert moved.headers["Location"].endswith(f"&private, max-age={ttl_s}")
        handed_over = await asked(path, left_s, "accel")
        assert handed_over.headers["X-Accel-Redirect"].startswith("/_store/private/")
        assert f"?{ttl_s}&" in handed_over.headers["X-Accel-Redirect"]
        assert TOKEN not in f"{moved.headers}{handed_over.headers}"
