"""Validators of a response (RFC 9110, 8.8), for revalidation, and how they are stored as user metadata."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote

from avion_media.backends.remote.url import RemoteUrl

_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,126}"')  # RFC 9110, 8.8.3; longer ones than this are not kept
_MAX_DATE_CHARACTERS = 64
_SOURCE, _ETAG_NAME, _DATE_NAME = "remote-source", "remote-etag", "remote-date"


@dataclass(frozen=True, slots=True)
class Validators:
    """Validators of one response. They are valid only for its URL: ``source`` is the SHA-256 of that URL, in hex.

    The URL may redirect elsewhere later, where the same entity tag would mean another file.
    """

    source: str
    etag: str = ""
    last_modified: str = ""

    def conditions(self, url: RemoteUrl) -> list[tuple[str, str]]:
        """Return the headers that make a request to ``url`` conditional; none if the response came from another URL."""
        if source_of(url) != self.source:
            return []
        pairs = (("If-None-Match", self.etag), ("If-Modified-Since", self.last_modified))
        return [(name, value) for name, value in pairs if value]

    def to_metadata(self) -> dict[str, str]:
        """Return user metadata for the object store, percent-encoded, because stores and signatures treat spaces
        differently."""
        pairs = ((_SOURCE, self.source), (_ETAG_NAME, self.etag), (_DATE_NAME, self.last_modified))
        return {name: quote(value, safe="") for name, value in pairs if value}


def validators_of(url: RemoteUrl, etag: str, last_modified: str) -> Validators | None:
    """Return the validators of a response from ``url``; None without well-formed ones, because the server is not
    trusted."""
    kept_etag = etag if _ETAG.fullmatch(etag) else ""
    kept_date = last_modified if _is_date(last_modified) else ""
    return Validators(source_of(url), kept_etag, kept_date) if kept_etag or kept_date else None


def validators_from(metadata: Mapping[str, str]) -> Validators | None:
    """Read what `Validators.to_metadata` wrote; None if it is missing or malformed."""
    source, etag, date = (unquote(metadata.get(name, "")) for name in (_SOURCE, _ETAG_NAME, _DATE_NAME))
    if not source or (etag and not _ETAG.fullmatch(etag)) or (date and not _is_date(date)):
        return None
    return Validators(source, etag, date) if etag or date else None


def source_of(url: RemoteUrl) -> str:
    """See `Validators.source`."""
    return hashlib.sha256(str(url).encode()).hexdigest()


def _is_date(text: str) -> bool:
    if len(text) > _MAX_DATE_CHARACTERS or not text.isascii() or not text.isprintable():
        return False
    try:
        parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return False
    return True
