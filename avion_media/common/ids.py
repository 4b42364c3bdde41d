"""Media ids: 26 characters of Crockford base32 that carry their own date and format.

Layout of the 128 bits, most significant first: 48 bits of Unix milliseconds, 8 bits of format code, 72 random
bits. The highest bit of the format code says that the media item is private; the other seven are the code of the table
of formats. The text form is that of a ULID (https://github.com/ulid/spec), upper case, so ids sort by time.
Remote media are named by a keyed hash of their normalised URL instead (`RemoteIds`; 64 hex digits, lower case).
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from avion_media.common.formats import BY_CODE, MediaFormat

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PYTHON_DIGITS = str.maketrans(ALPHABET, "0123456789ABCDEFGHIJKLMNOPQRSTUV")  # the digits that `int` reads in base 32
MEDIA_ID_PATTERN = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
"""What a media id looks like, as a regular expression."""
_MEDIA_ID = re.compile(MEDIA_ID_PATTERN, re.ASCII)
_REMOTE_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME_DIGITS = 10
_RANDOM_BITS = 72
_PRIVATE_CODE = 0x80
_FIRST_PRIVATE_DIGIT = ALPHABET[16]  # the digit after the time has the highest bits of the format code
_MAX_UNIX_MS = (1 << 48) - 1


class InvalidId(ValueError):
    """The text is not a media id (or remote hash) of this service."""


class UnknownFormat(InvalidId):
    """A well-formed media id with an unknown format code: it is invented, or a newer version of this service made it,
    because the table only grows. This version cannot do anything with it."""


@dataclass(frozen=True, slots=True)
class MediaId:
    """The id of an upload: ``text`` alone gives ``created`` (UTC) and ``format``."""

    text: str
    created: datetime
    format: MediaFormat

    def __str__(self) -> str:
        return self.text

    @property
    def is_private(self) -> bool:
        """Whether only bearers of a token may read it."""
        return is_private(self.text)


@dataclass(frozen=True, slots=True)
class RemoteId:
    """The id of a remote media item: see `RemoteIds`. Remote media are public."""

    text: str
    is_private = False

    def __str__(self) -> str:
        return self.text


AnyId = MediaId | RemoteId


def base32(value: int, digits: int) -> str:
    """Return the last digits of a number in Crockford's base32: of one length, they sort like the numbers."""
    return "".join(ALPHABET[(value >> shift) & 31] for shift in range(5 * (digits - 1), -1, -5))


def is_private(text: str) -> bool:
    """Return whether a well-formed id, also one of an unknown format, is that of a private media item."""
    return len(text) == 26 and text[_TIME_DIGITS] >= _FIRST_PRIVATE_DIGIT


def new_media_id(
    fmt: MediaFormat,
    unix_ms: int,
    random_bits: Callable[[int], int] = secrets.randbits,
    *,
    private: bool = False,
) -> MediaId:
    """Make an id for a media item of ``fmt`` requested at ``unix_ms`` (milliseconds since 1970, UTC)."""
    if not 0 <= unix_ms <= _MAX_UNIX_MS:
        raise ValueError(f"unix_ms must fit 48 bits, got {unix_ms}")
    code = fmt.code | (_PRIVATE_CODE if private else 0)
    value = (unix_ms << 80) | (code << _RANDOM_BITS) | random_bits(_RANDOM_BITS)
    text = base32(value, 26)
    return MediaId(text, datetime.fromtimestamp(unix_ms / 1000, UTC), fmt)


def time_prefix(unix_ms: int) -> str:
    """Return the first ten characters of all ids of that millisecond; those that were made before sort before it."""
    return base32(unix_ms, _TIME_DIGITS)


def value_of(text: str) -> int:
    """Return the number that digits of Crockford's base32 stand for."""
    return int(text.translate(_PYTHON_DIGITS), 32)


def unix_ms_of(text: str) -> int:
    """Return the milliseconds that a text in the form of `MEDIA_ID_PATTERN` begins with."""
    return value_of(text[:_TIME_DIGITS])


def parse_media_id(text: str) -> MediaId:
    """Read a media id. Raises `InvalidId` (wrong alphabet or length, or a date out of range), or `UnknownFormat` if
    only its format code is unknown."""
    if not _MEDIA_ID.fullmatch(text):
        raise InvalidId("not a media id; one looks like 01M8D8AHEV0B0647EWDKZFG4Q1")
    value = value_of(text)
    try:
        created = datetime.fromtimestamp((value >> 80) / 1000, UTC)
    except (ValueError, OverflowError):
        raise InvalidId("the date in the media id is out of range") from None
    fmt = BY_CODE.get((value >> _RANDOM_BITS) & (0xFF ^ _PRIVATE_CODE))
    if fmt is None:
        raise UnknownFormat("this version does not know the format code in the media id")
    return MediaId(text, created, fmt)


def parse_remote_id(text: str) -> RemoteId:
    """Read a remote hash, or raise `InvalidId`."""
    if not _REMOTE_ID.fullmatch(text):
        raise InvalidId("a remote id is 64 lower-case hex digits")
    return RemoteId(text)


def parse_any_id(text: str) -> AnyId:
    """Read a media id or a remote hash, or raise `InvalidId` or `UnknownFormat`."""
    return parse_remote_id(text) if len(text) == 64 else parse_media_id(text)


def id_or_none(text: str) -> AnyId | None:
    """Read an id as `parse_any_id`; None for any other text, and for the id of a later version."""
    try:
        return parse_any_id(text)
    except InvalidId:
        return None


@dataclass(frozen=True, slots=True)
class RemoteIds:
    """Makes the ids of remote media: the HMAC-SHA256 of the normalised URL, in hex.

    ``key`` is the secret of this installation. Without it nobody can tell which URL an id belongs to, or ask the origin
    about a URL. It never changes, because all objects of remote media are named by it.
    """

    key: bytes = field(repr=False)

    def of(self, normalised_url: str) -> RemoteId:
        """Return the id of a remote media item."""
        return RemoteId(hmac.digest(self.key, normalised_url.encode(), "sha256").hex())
