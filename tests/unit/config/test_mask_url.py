"""URLs with passwords, as they are shown."""

from __future__ import annotations

from avion_media.common.settings import mask_url


def test_no_password_is_told() -> None:
    url = "redis+sentinel://u:secret@a:1,b:2/media?sentinel_password=over&sentinel_username=watch"
    masked = "redis+sentinel://u:***@a:1,b:2/media?sentinel_password=***&sentinel_username=watch"
    assert mask_url(url) == masked
    for odd in ("redis://me:hu@sh@a/0", "redis://me:hu/sh@a/0", "redis://me:hu?sh@a/0"):
        assert "hu" not in mask_url(odd)
        assert "sh" not in mask_url(odd)
