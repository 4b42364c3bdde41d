"""Object keys and origin paths: every one follows from an id alone (docs/contract.md, sections 3 and 5)."""

from __future__ import annotations

from collections.abc import Iterable

from avion_media.domain.ids import AnyId, MediaId
from avion_media.domain.media import WEBP_SUFFIX

INCOMING_PREFIX = "incoming/"
ORIGINAL_PREFIX = "original/"
THUMBNAIL_PREFIX = "thumbnail/"
CACHED_REMOTE_PREFIX = "cached_remote/"
OWNER_PREFIX = "owner/"
DELETION_JOURNAL_PREFIX = "journal/deletions/"
UPLOAD_SECRET = "secret/upload-ids"
"""The key that the ids of multipart uploads are signed with: all replicas read it here."""
IMPORT_SECRET = "secret/import-ids"
"""The key of the HMAC in the ids of imported media. Without it a repeated import would import everything again."""
BLOCKLIST_PREFIX = "blocklist/"
OWN_ENTRY_PREFIX = "blocklist/own/"
QUARANTINE_PREFIX = "quarantine/"
BLOCK_PREFIX = "moderation/blocked/"
LIFTED_PREFIX = "moderation/lifted/"
UNFINISHED_BLOCK_PREFIX = "moderation/unfinished/"
HELD_PREFIX = "moderation/held/"


def incoming(media_id: MediaId) -> str:
    """Where the client PUTs; never served."""
    return f"{INCOMING_PREFIX}{media_id}"


def original(any_id: AnyId) -> str:
    """The validated, scrubbed medium: of an upload, or of a remote file."""
    if isinstance(any_id, MediaId):
        return f"{ORIGINAL_PREFIX}{any_id.created:%Y/%m/%d}/{any_id}.{any_id.format.extension}"
    return f"{CACHED_REMOTE_PREFIX}{any_id}"


def thumbnail(any_id: AnyId, name: str) -> str:
    """The thumbnail of one named size: a JPEG, or a WebP where ``.webp`` follows the size."""
    size = name.removesuffix(WEBP_SUFFIX)
    extension = ".jpg" if size == name else WEBP_SUFFIX
    if isinstance(any_id, MediaId):
        return f"{THUMBNAIL_PREFIX}{size}/{any_id.created:%Y/%m/%d}/{any_id}{extension}"
    return f"{THUMBNAIL_PREFIX}{size}/remote/{any_id}{extension}"


def thumbnails(any_id: AnyId, sizes: Iterable[str]) -> list[str]:
    """The thumbnails of these sizes."""
    return [thumbnail(any_id, size) for size in sizes]


def owned(owner: str, media_id: MediaId, size_bytes: int) -> str:
    """Return the key that says that an owner has a media item, of so many bytes."""
    return f"{owned_by(owner, media_id)}{size_bytes}"


def owned_by(owner: str, media_id: MediaId | None = None) -> str:
    """Return the prefix of these keys of one owner, or of one media item of an owner."""
    return f"{OWNER_PREFIX}{owner}/" + ("" if media_id is None else f"{media_id}.")


def all_of(any_id: AnyId, sizes: Iterable[str]) -> list[str]:
    """Every key that a media item can have, with thumbnails of ``sizes``."""
    uploaded = [incoming(any_id)] if isinstance(any_id, MediaId) else []
    return [original(any_id), *thumbnails(any_id, sizes), *uploaded]


def origin_paths(any_id: AnyId | str, sizes: Iterable[str]) -> dict[str, str]:
    """Where the origin serves the thumbnails of these names, by name."""
    return {
        name: f"/thumbnail/{name.removesuffix(WEBP_SUFFIX)}/{any_id}{WEBP_SUFFIX if name.endswith(WEBP_SUFFIX) else ''}"
        for name in sizes
    }
