"""Thumbnails by name: a size, and ``.webp`` behind it for a WebP."""

from __future__ import annotations

from avion_media.common import keys
from avion_media.common.formats import JPEG, WEBP
from avion_media.common.ids import parse_any_id
from avion_media.common.media import in_all_formats, parse_size_names
from avion_media.servers.origin.app import target_of

REMOTE = parse_any_id("ab" * 32)


def test_a_webp_lies_beside_its_jpeg() -> None:
    assert keys.thumbnail(REMOTE, "small") == f"thumbnail/small/remote/{REMOTE}.jpg"
    assert keys.thumbnail(REMOTE, "small.webp") == f"thumbnail/small/remote/{REMOTE}.webp"


def test_the_origin_serves_each_at_its_own_path() -> None:
    paths = keys.origin_paths(REMOTE, ["small", "small.webp"])
    assert paths == {"small": f"/thumbnail/small/{REMOTE}", "small.webp": f"/thumbnail/small/{REMOTE}.webp"}
    for name, fmt in (("small", JPEG), ("small.webp", WEBP)):
        target = target_of(paths[name])
        assert target is not None
        assert (target.key, target.content_type) == (keys.thumbnail(REMOTE, name), fmt.content_type)


def test_only_thumbnails_have_a_suffix() -> None:
    for path in (f"/media/{REMOTE}.webp", f"/thumbnail/small/{REMOTE}.jpg", f"/thumbnail/small.webp/{REMOTE}"):
        assert target_of(path) is None
    assert target_of(f"/thumbnail/small/{REMOTE}.webp.webp") is None


def test_what_is_removed_is_removed_in_all_formats() -> None:
    assert in_all_formats(["small", "large.webp", "large"]) == ("small", "small.webp", "large", "large.webp")
    assert parse_size_names("small,small.webp,../x,.webp,a.webp.webp") == ("small", "small.webp")
