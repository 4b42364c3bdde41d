"""Fetching from strangers: URL parsing, the address guard, bounds per host, the fetcher."""

from avion_media.remote.answers import RemoteGone, ServerError
from avion_media.remote.dial import FetchTimeouts
from avion_media.remote.fetcher import Fetched, Fetcher
from avion_media.remote.guard import AddressGuard
from avion_media.remote.hosts import HostPolicy, Hosts, ServerTrouble, trouble_of
from avion_media.remote.url import InvalidUrl, RemoteUrl, parse_remote_url
from avion_media.remote.validators import Validators, validators_from

__all__ = [
    "AddressGuard",
    "FetchTimeouts",
    "Fetched",
    "Fetcher",
    "HostPolicy",
    "Hosts",
    "InvalidUrl",
    "RemoteGone",
    "RemoteUrl",
    "ServerError",
    "ServerTrouble",
    "Validators",
    "parse_remote_url",
    "trouble_of",
    "validators_from",
]
