"""Fetching from strangers: URL parsing, the address guard, the fetcher."""

from avion_media.remote.fetcher import Fetched, Fetcher
from avion_media.remote.guard import AddressGuard
from avion_media.remote.url import InvalidUrl, RemoteUrl, parse_remote_url

__all__ = ["AddressGuard", "Fetched", "Fetcher", "InvalidUrl", "RemoteUrl", "parse_remote_url"]
