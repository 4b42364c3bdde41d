"""Fetching from strangers: URL parsing, the address guard, the fetcher."""

from avion_media.remote.dial import Patience
from avion_media.remote.fetcher import Fetched, Fetcher
from avion_media.remote.guard import AddressGuard
from avion_media.remote.url import InvalidUrl, RemoteUrl, parse_remote_url

__all__ = ["AddressGuard", "Fetched", "Fetcher", "InvalidUrl", "Patience", "RemoteUrl", "parse_remote_url"]
