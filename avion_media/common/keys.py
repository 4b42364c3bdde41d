"""Object keys and origin paths. Each follows from an id alone (docs/contract.md, sections 3 and 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from avion_media.common.ids import AnyId, MediaId, RemoteId, is_private
from mediathumbs import WEBP_SUFFIX

INCOMING_PREFIX = "incoming/"
EXAMINED_PREFIX = "incoming/examined-"
"""Of what a replica writes to find out whether the object store can be trusted with uploads in parts."""
ORIGINAL_PREFIX = "original/"
THUMBNAIL_PREFIX = "thumbnail/"
CACHED_REMOTE_PREFIX = "cached_remote/"
CREDENTIALS_PREFIX = "credentials/"
OWNER_PREFIX = "owner/"
SHA256_PREFIX = "sha256/"
SIZE_PREFIX = "size/"
HOST_PREFIX = "host/"
DELETION_JOURNAL_PREFIX = "journal/deletions/"
UNREADABLE_JOURNAL_PREFIX = "journal/unreadable/"
"""Of entries of the journal that a replay could not read."""
GONE_PREFIX = "gone/"
"""Of notes that a deleted remote file was public before: only then the origin admits the deletion."""
UPLOAD_SECRET = "secret/upload-ids"
"""The object with the secret that signs the ids of uploads in parts. All replicas read it."""
IMPORT_SECRET = "secret/import-ids"
"""The object with the secret of the HMAC in the ids of imported media. Without it, a repeated import makes new ids."""
REMOTE_SECRET = "secret/remote-ids"
"""The object with the key of the ids of remote media (`RemoteIds`). It never changes."""
TOKEN_SECRET = "secret/media-tokens"
"""The object with the keys that sign the tokens of private media."""
REVOCATION_PREFIX = "private/"
BLOCKLIST_PREFIX = "blocklist/"
OWN_ENTRY_PREFIX = "blocklist/own/"
QUARANTINE_PREFIX = "quarantine/"
BLOCK_PREFIX = "moderation/blocked/"
WATCHED_PREFIX = "moderation/watched/"
REFUSED_PREFIX = "moderation/refused/"
SOURCE_PREFIX = "moderation/sources/"
SHOWN_PREFIX = "moderation/shown/"
"""Of notes that a blocked remote file was public before: only then the origin admits the block."""
HELD_PREFIX = "moderation/held/"
NOTICE_PREFIX = "moderation/reported/"
HOST_BLOCK_PREFIX = "moderation/hosts/"
KEPT_UPLOAD = "incoming"
"""Name of the evidence: an upload, as the client PUT it."""
KEPT_ORIGINAL = "original"
"""Name of the evidence: an original that was public."""
TOKEN = "{token}"
"""What paths of private media have in the place of a token."""


def incoming(media_id: MediaId) -> str:
    """Return the key of an upload, which is never served."""
    return f"{INCOMING_PREFIX}{media_id}"


def original(any_id: AnyId) -> str:
    """Return the key of an original: a validated and scrubbed upload or remote file."""
    if isinstance(any_id, MediaId):
        return f"{ORIGINAL_PREFIX}{any_id.created:%Y/%m/%d}/{any_id}.{any_id.format.extension}"
    return f"{CACHED_REMOTE_PREFIX}{any_id}"


def behind(prefix: str) -> str:
    """Return the first text that sorts behind all keys with this prefix, which ends in an ASCII character."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def name_in(key: str) -> str:
    """Return the id in the key of an object of a media item, or what stands in its place."""
    return key.rpartition("/")[2].partition(".")[0]


def thumbnail(any_id: AnyId, name: str) -> str:
    """Return the key of the thumbnail of one size: a JPEG, or a WebP if the size ends in ``.webp``."""
    size = name.removesuffix(WEBP_SUFFIX)
    extension = ".jpg" if size == name else WEBP_SUFFIX
    if isinstance(any_id, MediaId):
        return f"{THUMBNAIL_PREFIX}{size}/{any_id.created:%Y/%m/%d}/{any_id}{extension}"
    return f"{THUMBNAIL_PREFIX}{size}/remote/{any_id}{extension}"


def thumbnails(any_id: AnyId, sizes: Iterable[str]) -> list[str]:
    """Return the keys of the thumbnails of these sizes."""
    return [thumbnail(any_id, size) for size in sizes]


def credentials(any_id: AnyId) -> str:
    """Return the key of the C2PA manifest of an upload or remote file that is kept beside its original."""
    place = f"{any_id.created:%Y/%m/%d}" if isinstance(any_id, MediaId) else "remote"
    return f"{CREDENTIALS_PREFIX}{place}/{any_id}.c2pa"


def owned(owner: str, media_id: MediaId, size_bytes: int) -> str:
    """Return the key of the index object of an owner's media item, which has its size in bytes."""
    return f"{owned_by(owner, media_id)}{size_bytes}"


def owned_by(owner: str, media_id: MediaId | None = None) -> str:
    """Return the prefix of the index objects of an owner, or of one media item of an owner."""
    return f"{OWNER_PREFIX}{owner}/" + ("" if media_id is None else f"{media_id}.")


def evidence(any_id: AnyId, name: str) -> str:
    """Return the key of a file that is kept of a blocked or held media item."""
    return f"{QUARANTINE_PREFIX}{any_id}/{name}"


def same_file(sha256: str, size_bytes: int, any_id: AnyId | str = "") -> str:
    """Return the key of the index object of an original; the prefix of those of all candidates for the same file
    without ``any_id``.

    An original without a SHA-256 (a large video) has its size there: it is known before the original is written.
    """
    return f"{SHA256_PREFIX}{sha256}/{any_id}" if sha256 else f"{SIZE_PREFIX}{size_bytes}/{any_id}"


def hosted(host: str, remote_id: RemoteId, size_bytes: int, kind: str) -> str:
    """Return the key of the index object of a remote file's copy, which has its size in bytes, and its kind."""
    return f"{hosted_by(host, remote_id)}{size_bytes}.{kind}"


def hosted_by(host: str, remote_id: RemoteId | None = None) -> str:
    """Return the prefix of the index objects of a host, or of one copy of a file of that host."""
    return f"{HOST_PREFIX}{host}/" + ("" if remote_id is None else f"{remote_id}.")


def block(media_id: str) -> str:
    """Return the key of the record of a block."""
    return f"{BLOCK_PREFIX}{media_id}"


def was_public(remote_id: RemoteId, *, deleted: bool) -> str:
    """Return the key of the note that a deleted remote file, or else a blocked one, was public before."""
    return f"{GONE_PREFIX if deleted else SHOWN_PREFIX}{remote_id}"


def revocation(media_id: str) -> str:
    """Return the key of the record of revoked tokens of a private media item."""
    return f"{REVOCATION_PREFIX}{media_id}"


def refused(original: str, media_id: str = "") -> str:
    """Return the key of the note that a file was refused because it is that of a blocked original; the prefix of all
    such notes without ``media_id``."""
    return f"{REFUSED_PREFIX}{original}/{media_id}"


def blocked_of(source: str, media_id: str = "") -> str:
    """Return the key of the note that a media item of an owner (``owner/NAME``) or host (``host/NAME``) is blocked; the
    prefix of all such notes without ``media_id``."""
    return f"{SOURCE_PREFIX}{source}/{media_id}"


def all_of(any_id: AnyId, sizes: Iterable[str]) -> list[str]:
    """Return every key that a media item can have, with thumbnails of ``sizes``."""
    uploaded = [incoming(any_id)] if isinstance(any_id, MediaId) else []
    return [original(any_id), *thumbnails(any_id, sizes), credentials(any_id), *uploaded]


def original_path(any_id: AnyId | str) -> str:
    """Return the origin path of an original."""
    return f"/media/{_opened(any_id)}"


def credentials_path(any_id: AnyId | str) -> str:
    """Return the origin path of the manifest beside an original."""
    return f"/media/{_opened(any_id)}/credentials"


ORIGIN_URL = re.compile(r"https?://[^?#]+/(?:media|thumbnail/[^/]+)/(\w+)")
"""A URL with one of these paths, whatever is before it; its group may be a media id."""


def origin_paths(any_id: AnyId | str, sizes: Iterable[str]) -> dict[str, str]:
    """Return the origin paths of these thumbnails, by name."""
    return {
        name: f"/thumbnail/{name.removesuffix(WEBP_SUFFIX)}/{_opened(any_id)}"
        f"{WEBP_SUFFIX if name.endswith(WEBP_SUFFIX) else ''}"
        for name in sizes
    }


def _opened(any_id: AnyId | str) -> str:
    """Return an id as paths have it: that of a private media item with the place of the token."""
    return f"{any_id}/{TOKEN}" if is_private(str(any_id)) else str(any_id)
