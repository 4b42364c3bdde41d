"""Fetching from untrusted servers: URL parsing, the address guard, bounds per host, the fetcher."""

from avion_media.remote.dial import FetchTimeouts
from avion_media.remote.errors import RemoteGone, ServerError
from avion_media.remote.fetcher import Fetched, Fetcher
from avion_media.remote.guard import AddressGuard
from avion_media.remote.hosts import BreakerState, HostLimiter, HostLimits, breaker_state
from avion_media.remote.url import InvalidUrl, RemoteUrl, parse_remote_url
from avion_media.remote.validators import Validators, validators_from

__all__ = [
    "AddressGuard",
    "BreakerState",
    "FetchTimeouts",
    "Fetched",
    "Fetcher",
    "HostLimiter",
    "HostLimits",
    "InvalidUrl",
    "RemoteGone",
    "RemoteUrl",
    "ServerError",
    "Validators",
    "breaker_state",
    "parse_remote_url",
    "validators_from",
]
