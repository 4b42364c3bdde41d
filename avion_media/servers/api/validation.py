"""Check a RequestMediaUpload field by field and report all violations at once, each with a stable reason.

It also limits how many uploads each caller can request without completing them: see `PendingUploads`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any, TypeVar, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from avion_media.backends.remote import OwnUrls
from avion_media.common.errors import MediaError, Reason
from avion_media.common.formats import MediaFormat, by_content_type, by_filename
from avion_media.common.ids import AnyId, InvalidId, MediaId, UnknownFormat, is_private, parse_any_id
from avion_media.common.media import is_owner
from avion_media.common.records import UnreadableRecord
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.items.moderation import (
    MAX_NOTE,
    BlockedHost,
    Ground,
    InvalidHost,
    notice_time,
    parse_host,
)
from avion_media.items.moderation.hosts import EXACTLY
from avion_media.items.private.tokens import is_audience
from avion_media.media.settings import UploadConfig
from avion_media.servers.api.sentences import sentences
from avion_media.servers.api.statuses import UnknownMedium
from guarded_fetch import InvalidUrl, RemoteUrl, parse_remote_url

MAX_FILENAME_CHARACTERS = 255
SHA256_BYTES = 32
_KEEP = wire.CONTENT_CREDENTIALS_KEEP
_MINUTE_S = 60
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_MEDIA_IDS = 1000
"""Media ids of one call."""
_FAULTS = {
    "CONTENT_TYPE_UNSUPPORTED": Reason.UNSUPPORTED_TYPE,
    "CONTENT_TYPE_DISABLED": Reason.UNSUPPORTED_TYPE,
    "EXTENSION_MISMATCH": Reason.TYPE_MISMATCH,
    "SIZE_ZERO": Reason.EMPTY,
    "SIZE_TOO_LARGE": Reason.TOO_LARGE,
}
"""What the file itself would be refused for, by the reasons of violations."""
# Control characters, line and paragraph separators. Other invisible characters are allowed: joiners are a part of emoji
# and of words in many scripts, and macOS puts a narrow no-break space into the names of its screenshots.
_NOT_IN_NAMES = frozenset({"Cc", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its name, a description, and a stable reason in capitals (google.rpc.BadRequest)."""

    field: str
    description: str
    reason: str
    sentence: str = ""
    """For the person who uploads; empty if the program that asks is at fault."""


class BadRequest(MediaError):
    """One or more fields are wrong."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(f"{each.field}: {each.description}" for each in violations))
        self.violations = violations


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A checked request. ``format`` becomes a part of the id, and so decides the extension of the object key."""

    format: MediaFormat
    content_type: str
    size_bytes: int
    sha256: bytes
    owner: str
    keep_credentials: bool
    private: bool = False


def check_upload_request(
    filename: str,
    content_type: str,
    size_bytes: int,
    sha256: bytes,
    owner: str = "",
    credentials: int = wire.CONTENT_CREDENTIALS_UNSPECIFIED,
    visibility: int = wire.MEDIA_VISIBILITY_UNSPECIFIED,
    *,
    multipart: bool = False,
    limits: UploadConfig,
    enabled: frozenset[str],
) -> UploadRequest:
    """Check the fields of a RequestMediaUpload. Raises `BadRequest` with every violation."""
    fmt = by_content_type(content_type)
    violations = [
        violation
        for violation in (
            _check_content_type(content_type, fmt, enabled),
            _check_filename(filename, fmt),
            _check_size(size_bytes, fmt, limits),
            _check_sha256(sha256, multipart=multipart),
            _check_owner(owner),
            _check_credentials(credentials),
            _check_visibility(visibility),
        )
        if violation is not None
    ]
    if violations or fmt is None:
        said = sentences(limits)
        raise BadRequest(
            [
                replace(each, sentence=said[_FAULTS[each.reason]] if each.reason in _FAULTS else "")
                for each in violations
            ]
        )
    keep = limits.keeps_credentials if credentials == wire.CONTENT_CREDENTIALS_UNSPECIFIED else credentials == _KEEP
    key_format = _key_format(filename, fmt, enabled)
    private = visibility == wire.MEDIA_VISIBILITY_PRIVATE
    return UploadRequest(key_format, content_type, size_bytes, sha256, owner, keep, private)


def _key_format(filename: str, fmt: MediaFormat, enabled: frozenset[str]) -> MediaFormat:
    """Return the format whose extension the object key gets: that of the file name, if it is accepted."""
    named = by_filename(filename, fmt)
    return named if named is not None and named.name in enabled else fmt


def _check_content_type(content_type: str, fmt: MediaFormat | None, enabled: frozenset[str]) -> Violation | None:
    if not content_type:
        return Violation("content_type", "is required", "CONTENT_TYPE_REQUIRED")
    if fmt is None or not content_type.isascii() or not content_type.isprintable():
        return Violation(
            "content_type", "is not a supported type; GetCapabilities lists them", "CONTENT_TYPE_UNSUPPORTED"
        )
    if fmt.name not in enabled:
        return Violation("content_type", f"{fmt.content_type} is disabled on this server", "CONTENT_TYPE_DISABLED")
    return None


def _check_filename(filename: str, fmt: MediaFormat | None) -> Violation | None:
    if not filename.strip():
        return Violation("filename", "is required", "FILENAME_REQUIRED")
    if len(filename) > MAX_FILENAME_CHARACTERS:
        return Violation("filename", f"is longer than {MAX_FILENAME_CHARACTERS} characters", "FILENAME_TOO_LONG")
    if any(unicodedata.category(each) in _NOT_IN_NAMES for each in filename) or "/" in filename or "\\" in filename:
        return Violation("filename", "must not hold control characters or path separators", "FILENAME_INVALID")
    # Without a known extension ("blob", "IMG_1.2024", "cat.jpg.bak"), the content type decides.
    named = by_filename(filename, fmt)
    if named is not None and fmt is not None and named.family is not fmt.family:
        return Violation(
            "filename",
            f"the file extension means {named.family}, but content_type means {fmt.family}",
            "EXTENSION_MISMATCH",
        )
    return None


def _check_size(size_bytes: int, fmt: MediaFormat | None, limits: UploadConfig) -> Violation | None:
    if size_bytes < 0:
        return Violation("size", "must not be negative", "SIZE_NEGATIVE")
    if size_bytes == 0:
        return Violation("size", "must be greater than zero", "SIZE_ZERO")
    largest = limits.max_bytes(fmt.family) if fmt else limits.most_bytes
    if size_bytes > largest:
        return Violation("size", f"is {size_bytes} bytes, but the limit is {largest} bytes", "SIZE_TOO_LARGE")
    return None


def check_part_numbers(numbers: Sequence[int], count: int) -> None:
    """Check the numbers of a SignUploadParts for an upload of ``count`` parts. Raises `BadRequest`."""
    if not all(1 <= number <= count for number in numbers):
        raise BadRequest([Violation("numbers", f"must be within 1 and {count}", "NUMBERS_OUT_OF_RANGE")])
    if len(set(numbers)) != len(numbers):
        raise BadRequest([Violation("numbers", "contains a number twice", "NUMBERS_REPEATED")])


def _check_sha256(sha256: bytes, *, multipart: bool) -> Violation | None:
    if sha256 and multipart:
        return Violation("sha256", "cannot be enforced for an upload in parts", "SHA256_WITH_MULTIPART")
    if sha256 and len(sha256) != SHA256_BYTES:
        return Violation("sha256", f"must be exactly {SHA256_BYTES} bytes if set", "SHA256_LENGTH")
    return None


def check_owner(owner: str) -> None:
    """Check a required owner. Raises `BadRequest`."""
    violation = _check_owner(owner) if owner else Violation("owner", "is required", "OWNER_REQUIRED")
    if violation is not None:
        raise BadRequest([violation])


def check_owner_or_host(owner: str, host: str) -> str:
    """Return the host of a request that names exactly one of the two; empty if it is the owner. Raises `BadRequest`."""
    if owner and host:
        raise bad_field("host", "must be empty if there is an owner", "HOST_WITH_OWNER")
    if host:
        return check_host(host).host
    check_owner(owner)
    return ""


Id = TypeVar("Id")


def check_page(page_size: int, page_token: str, parse: Callable[[str], Id]) -> tuple[int, Id | None]:
    """Return the page size, and what ``parse`` makes of the token, which raises ValueError. 0 means the default size.

    Raises `BadRequest`.
    """
    violations, after = [], None
    if page_size < 0:
        violations.append(Violation("page_size", "must not be negative", "PAGE_SIZE_NEGATIVE"))
    if page_token:
        try:
            after = parse(page_token)
        except ValueError:
            violations.append(Violation("page_token", "is not one that this service returned", "PAGE_TOKEN_INVALID"))
    if violations:
        raise BadRequest(violations)
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), after


def check_note(note: str) -> None:
    """Check the note of a block. Raises `BadRequest`."""
    if len(note) > MAX_NOTE:
        raise bad_field("note", f"is longer than {MAX_NOTE} characters", "NOTE_TOO_LONG")


def check_requested_at(at: Timestamp | None) -> str:
    """Return when a notice arrived, in the form of the records; empty for none. Raises `BadRequest`."""
    if at is None:
        return ""
    try:
        return notice_time(at.ToDatetime(UTC))
    except (ValueError, OverflowError):
        raise bad_field("requested_at", "must be a valid time that has passed", "REQUESTED_AT_INVALID") from None


def check_ground(ground: int) -> Ground:
    """Return the ground of a block. Raises `BadRequest`."""
    try:
        name = wire.BlockGround.Name(cast("Any", ground))
    except ValueError:
        raise bad_field("ground", "is not one of BlockGround", "GROUND_INVALID") from None
    return Ground(name.removeprefix("BLOCK_GROUND_").replace("UNSPECIFIED", "").lower())


def check_host(host: str, *, exact: bool = False) -> BlockedHost:
    """Return what to block. Another spelling of the same host is refused. Raises `BadRequest`."""
    if not host:
        raise bad_field("host", "is required", "HOST_REQUIRED")
    try:
        found = parse_host(f"{EXACTLY if exact else ''}{host}")
    except InvalidHost as error:
        raise bad_field("host", str(error), "HOST_INVALID") from None
    if found.host != host:
        raise bad_field("host", f"must be written as {found.host}", "HOST_INVALID")
    return found


def _check_owner(owner: str) -> Violation | None:
    if owner and not is_owner(owner):
        return Violation("owner", "must be 1 to 64 letters, digits and . _ : - (ASCII)", "OWNER_INVALID")
    return None


def _check_credentials(credentials: int) -> Violation | None:
    if credentials not in wire.ContentCredentials.values():
        return Violation("credentials", "is not one of DROP and KEEP", "CREDENTIALS_UNKNOWN")
    return None


def _check_visibility(visibility: int) -> Violation | None:
    if visibility not in wire.MediaVisibility.values():
        return Violation("visibility", "is not one of PUBLIC and PRIVATE", "VISIBILITY_UNKNOWN")
    return None


def bad_field(field: str, description: str, reason: str) -> BadRequest:
    """Return the refusal of one field."""
    return BadRequest([Violation(field, description, reason)])


def check_media_id(text: str) -> MediaId:
    """Return the id of an upload. Raises `BadRequest`, and `UnknownMedium` for a format of another version."""
    any_id = check_any_id(text)
    if not isinstance(any_id, MediaId):
        raise bad_field("media_id", "refers to remote media, which cannot be uploaded", "MEDIA_ID_REMOTE")
    return any_id


def check_any_id(text: str) -> AnyId:
    """Return the id of an upload or of a remote file. Raises as `check_media_id`."""
    if not text:
        raise bad_field("media_id", "is required", "MEDIA_ID_REQUIRED")
    try:
        return parse_any_id(text)
    except UnknownFormat:
        raise UnknownMedium(text) from None
    except InvalidId as error:
        raise bad_field("media_id", str(error), "MEDIA_ID_MALFORMED") from None


def check_remote_url(text: str, own_urls: OwnUrls) -> RemoteUrl:
    """Return the URL of a remote file, which is none of ``own_urls``. Raises `BadRequest`."""
    if not text:
        raise bad_field("remote_url", "is required", "REMOTE_URL_REQUIRED")
    try:
        url = parse_remote_url(text)
    except InvalidUrl as error:
        raise bad_field("remote_url", str(error), "REMOTE_URL_INVALID") from None
    if url in own_urls:
        raise bad_field("remote_url", "is a URL of this installation; use the id of its media item", "OWN_URL")
    return url


def check_media_ids(texts: Sequence[str]) -> list[str]:
    """Return the ids of a call for several media items, each once. Ids of a later version's formats count as well.

    Raises `BadRequest`.
    """
    if not texts:
        raise bad_field("media_ids", "is required", "MEDIA_IDS_REQUIRED")
    if len(texts) > MAX_MEDIA_IDS:
        raise bad_field("media_ids", f"has {len(texts)} ids, but the limit is {MAX_MEDIA_IDS}", "MEDIA_IDS_TOO_MANY")
    for number, text in enumerate(texts):
        try:
            parse_any_id(text)
        except UnknownFormat:
            continue
        except InvalidId as error:
            raise bad_field(f"media_ids[{number}]", str(error), "MEDIA_ID_MALFORMED") from None
    return list(dict.fromkeys(texts))


def parse_or_unreadable(text: str) -> AnyId:
    """Return a checked id. Raises `UnreadableRecord` for a format that only a later version knows."""
    try:
        return parse_any_id(text)
    except UnknownFormat as error:
        raise UnreadableRecord("media id", text, str(error)) from None


def check_private_ids(texts: Sequence[str]) -> list[str]:
    """Return the ids of a call for several private media items, each once. Raises `BadRequest`."""
    media_ids = check_media_ids(texts)
    for number, text in enumerate(texts):
        if not is_private(text):
            raise bad_field(f"media_ids[{number}]", "is not that of a private media item", "MEDIA_ID_NOT_PRIVATE")
    return media_ids


def check_audience(audience: str) -> None:
    """Check an audience, or none. Raises `BadRequest`."""
    if not is_audience(audience):
        raise bad_field("audience", "must be at most 255 letters, digits and . _ : - (ASCII)", "AUDIENCE_INVALID")


def check_ttl(ttl: Duration | None, default_s: float, most_s: float) -> float:
    """Return the seconds of the lifetime of tokens. Raises `BadRequest`."""
    if ttl is None:
        return default_s
    ttl_s = ttl.seconds + ttl.nanos / 1e9
    if not 1 <= ttl_s <= most_s:
        raise bad_field("ttl", f"must be within 1 and {most_s:g} seconds", "TTL_OUT_OF_RANGE")
    return ttl_s


def check_delay(delay: Duration | None, most_s: float) -> float:
    """Return the seconds of the delay of a deletion; without one, the most. Raises `BadRequest`."""
    if delay is None:
        return most_s
    delay_s = delay.seconds + delay.nanos / 1e9
    if not 0 <= delay_s <= most_s:
        raise bad_field("delay", f"must be within 0 and {most_s:g} seconds", "DELAY_OUT_OF_RANGE")
    return delay_s


class TooManyPending(MediaError):
    """The caller has too many uploads that it never completed."""


class PendingUploads:
    """The counts of one process. ``max_pending`` 0: unlimited. ``lifetime_s`` is the lifetime of an upload URL.

    Counting needs no I/O and stores no ids: it counts per caller and minute, by the time in the id. A completion is
    subtracted on the replica where it arrives, which may be another one than that of the request. On average, as many
    ids of one replica are completed elsewhere as the other way round, so each replica's count is right on average.
    Errors disappear when the upload URLs expire. For the same reason the limit is per replica.
    """

    def __init__(self, max_pending: int, lifetime_s: float) -> None:
        self._max_pending = max_pending
        self._minutes = math.ceil(lifetime_s / _MINUTE_S)
        self._counts: dict[str, dict[int, int]] = {}  # caller -> minute -> pending

    def admit(self, caller: str, now: float) -> None:
        """Count one more upload of this caller, or raise `TooManyPending`."""
        if not self._max_pending:
            return
        minute = int(now) // _MINUTE_S
        counts = self._counts.setdefault(caller, {})
        if minute not in counts:
            for old in [each for each in counts if each < minute - self._minutes]:
                del counts[old]
            counts[minute] = 0
        if sum(counts.values()) >= self._max_pending:
            raise TooManyPending(
                f"{caller or 'the caller'} has {self._max_pending} pending uploads;"
                " complete them or wait until their URLs expire"
            )
        counts[minute] += 1

    def completed(self, caller: str, requested_at: float) -> None:
        """Subtract an upload that was completed for the first time; ``requested_at`` is in its id (Unix seconds)."""
        counts = self._counts.get(caller, {})
        minute = int(requested_at) // _MINUTE_S
        if counts.get(minute, 0) > 0:
            counts[minute] -= 1

    def pending(self, caller: str) -> int:
        """The present number of pending uploads."""
        return sum(self._counts.get(caller, {}).values())
