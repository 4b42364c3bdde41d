"""Fetching from untrusted servers: URL parsing, the address guard, bounds per host, the fetcher."""

from avion_media.backends.remote.dial import FetchTimeouts
from avion_media.backends.remote.errors import RemoteGone, ServerError
from avion_media.backends.remote.fetcher import Fetched, Fetcher, Validators, validators_from
from avion_media.backends.remote.guard import AddressGuard, covers
from avion_media.backends.remote.hosts import HostLimiter, HostLimits, breaker_state
from avion_media.backends.remote.url import InvalidUrl, RemoteUrl, address_of, normal_host, parse_remote_url
