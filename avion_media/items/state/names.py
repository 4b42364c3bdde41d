"""Keys and channels for the state of media items. The braces are literal: they choose the cluster slot."""

from __future__ import annotations

STATUS_CHANGES = "media_status"
"""Channel: the id of a media item whose status changed."""


def key_of(kind: str, media_id: str) -> str:
    """Return a key of one media item.

    All keys of one media item are in one cluster slot. So are those of all ids with the same last two characters (about
    a thousandth of all media items), so that scripts can work on batches.
    """
    return f"{kind}:{{{media_id[-2:]}}}{media_id}"


def status_key(media_id: str) -> str:
    """Return the key of the status of a media item (a string)."""
    return key_of("media_status", media_id)


def deletion_key(media_id: str) -> str:
    """Return the key of the record of its deletion (a hash)."""
    return key_of("media_deletion", media_id)
