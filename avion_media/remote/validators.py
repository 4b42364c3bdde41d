"""What revalidation needs: the validators of an answer (RFC 9110, 8.8), and how they are kept as user metadata."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote

from avion_media.remote.url import RemoteUrl

_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,126}"')  # RFC 9110, 8.8.3; longer ones than this are not kept
_MAX_DATE_CHARACTERS = 64
_SOURCE, _ETAG_NAME, _DATE_NAME = "remote-source", "remote-etag", "remote-date"


@dataclass(frozen=True, slots=True)
class Validators:
    """Of one answer. They mean something only where it came from: ``source`` is the SHA-256 of that URL, in hex.

    A URL may redirect elsewhere by now, and there the same entity tag names another file.
    """

    source: str
    etag: str = ""
    last_modified: str = ""

    def conditions(self, url: RemoteUrl) -> list[tuple[str, str]]:
        """The headers that make a request to ``url`` conditional; none when the answer came from another URL."""
        if source_of(url) != self.source:
            return []
        pairs = (("If-None-Match", self.etag), ("If-Modified-Since", self.last_modified))
        return [(name, value) for name, value in pairs if value]

    def to_metadata(self) -> dict[str, str]:
        """User metadata for the object store: percent-encoded, as stores and signatures take liberties with spaces."""
        pairs = ((_SOURCE, self.source), (_ETAG_NAME, self.etag), (_DATE_NAME, self.last_modified))
        return {name: quote(value, safe="") for name, value in pairs if value}


def validators_of(url: RemoteUrl, etag: str, last_modified: str) -> Validators | None:
    """Those of an answer from ``url``; None when it gave none that are well-formed: a stranger wrote them."""
    kept_etag = etag if _ETAG.fullmatch(etag) else ""
    kept_date = last_modified if _is_date(last_modified) else ""
    return Validators(source_of(url), kept_etag, kept_date) if kept_etag or kept_date else None


def validators_from(metadata: Mapping[str, str]) -> Validators | None:
    """Read back what `Validators.to_metadata` wrote; None when it is not there, or not as we write it."""
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
