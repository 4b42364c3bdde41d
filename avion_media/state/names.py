"""Keys and channels of what is known of a media item. The braces are literal: one cluster slot."""

from __future__ import annotations

STATUS_CHANGES = "media_status"
"""Channel: the id of a media item whose status changed."""


def key_of(kind: str, media_id: str) -> str:
    """Return a key of one media item.

    All keys of one media item lie in one cluster slot. A thousandth of all media, those with the same last two
    characters, share it, so that scripts can work on batches.
    """
    return f"{kind}:{{{media_id[-2:]}}}{media_id}"


def status_key(media_id: str) -> str:
    """Return the string with the status of a media item."""
    return key_of("media_status", media_id)


def deletion_key(media_id: str) -> str:
    """Return the hash with the record of its deletion."""
    return key_of("media_deletion", media_id)
