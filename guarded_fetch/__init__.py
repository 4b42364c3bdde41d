"""Fetches from and posts to untrusted servers on Trio, without reaching the internal network.

`parse_remote_url` reads a URL, `AddressGuard` decides about hosts and addresses, `Fetcher` and `Poster` make requests.
Layers, from the wire up: `dial` (names, addresses, TLS), `exchange` (one HTTP/1.1 request), `fetcher` (redirects,
statuses, bodies) and `post`.
"""

from __future__ import annotations

from guarded_fetch.dial import DEFAULT_TIMEOUTS, FetchTimeouts, Resolve, resolve_by_system
from guarded_fetch.errors import (
    FetchCode,
    FetchError,
    FetchRejected,
    FetchUnavailable,
    Gone,
    NotCacheable,
    ResolverTrouble,
    ServerError,
    TooManyLookups,
)
from guarded_fetch.fetcher import Admitted, Fetched, Fetcher, Validators, retry_after_s, validators_from
from guarded_fetch.guard import PUBLIC_PORTS, AddressGuard, AddressRefused, covers
from guarded_fetch.post import Poster
from guarded_fetch.url import InvalidUrl, RemoteUrl, address_of, normal_host, parse_remote_url

__all__ = [
    "DEFAULT_TIMEOUTS",
    "PUBLIC_PORTS",
    "AddressGuard",
    "AddressRefused",
    "Admitted",
    "FetchCode",
    "FetchError",
    "FetchRejected",
    "FetchTimeouts",
    "FetchUnavailable",
    "Fetched",
    "Fetcher",
    "Gone",
    "InvalidUrl",
    "NotCacheable",
    "Poster",
    "RemoteUrl",
    "Resolve",
    "ResolverTrouble",
    "ServerError",
    "TooManyLookups",
    "Validators",
    "address_of",
    "covers",
    "normal_host",
    "parse_remote_url",
    "resolve_by_system",
    "retry_after_s",
    "validators_from",
]
