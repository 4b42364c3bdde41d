"""The URLs of this installation. The remote cache takes none of them.

A copy of a private media item would be public, without a token, and would stay after the item was revoked or deleted.

Hosts are compared in normal form. A name is ours on any port, because a proxy can listen on several. An address, or
``localhost``, is ours on one port only, with those of HTTP and HTTPS as one: installations under test share it. Other
buckets of the same store can belong to others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from guarded_fetch import PUBLIC_PORTS, InvalidUrl, RemoteUrl, address_of, parse_remote_url

_Place = tuple[str, int]
_ANY: Final = -1  # stands for all ports of a name
_WEB: Final = 0  # stands for the ports of HTTP and HTTPS of an address


class OwnUrls:
    """The addresses of one installation: ``origins`` of media, and the ``bucket`` on the object store ``store``."""

    def __init__(self, origins: Iterable[str] = (), store: str = "", bucket: str = "") -> None:
        self._origins = frozenset(map(_place_in, origins)) - {None}
        self._store = _place_in(store)
        self._bucket = bucket

    def __contains__(self, url: RemoteUrl) -> bool:
        """Return whether a URL belongs to this installation."""
        return _place_of(url) in self._origins or self._is_in_bucket(url)

    def _is_in_bucket(self, url: RemoteUrl) -> bool:
        """Return whether a URL names an object of the bucket, by its path or by its host."""
        if self._store is None:
            return False
        host, port = self._store
        if _place_of(url) == (f"{self._bucket}.{host}", port):
            return True
        name, _, _ = unquote(url.target).lstrip("/").partition("/")
        return _place_of(url) == self._store and name.partition("?")[0] == self._bucket


def _place_in(text: str) -> _Place | None:
    """Return the place of a setting; None if the setting is empty, or no URL of a remote file can have its host."""
    try:
        return _place_of(parse_remote_url(text))
    except InvalidUrl:
        return None


def _place_of(url: RemoteUrl) -> _Place:
    address = address_of(url.host)
    if address is None and url.host != "localhost":
        return url.host, _ANY
    mapped = getattr(address, "ipv4_mapped", None)
    host = url.host if mapped is None else str(mapped)
    return host, _WEB if url.port in PUBLIC_PORTS else url.port
