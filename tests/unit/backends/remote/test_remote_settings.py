"""Settings of the remote cache, and what is made of them."""

from __future__ import annotations

import ipaddress
from importlib.metadata import version

import pytest

from avion_media.config import Config, ConfigError, load
from avion_media.nodes.consumers import user_agent_of
from avion_media.process.runtime import guard_of
from avion_media.servers.settings import HttpConfig
from guarded_fetch import AddressRefused

R = "AVION_MEDIA_REMOTE__"
OWN_NAME = f"avion-media/{version('avion-media')}"


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [("", OWN_NAME), ("https://media.example", f"{OWN_NAME} (+https://media.example)")],
)
def test_the_fetcher_is_named_after_the_version_and_the_instance(public_url: str, expected: str) -> None:
    assert user_agent_of(Config(http=HttpConfig(public_url=public_url))) == expected


def test_denied_networks_reach_the_guard() -> None:
    config = load({R + "DENY_NETWORKS": "8.8.8.0/24, 2001:4860::/32", R + "DENY_HOSTS": "*.bad.example"})
    guard = guard_of(config.remote)
    for address in ("8.8.8.8", "2001:4860:4860::8888"):
        with pytest.raises(AddressRefused):
            guard.check_address(ipaddress.ip_address(address), 443)
    guard.check_address(ipaddress.ip_address("8.8.4.4"), 443)
    assert guard.host_denied("a.bad.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DENY_NETWORKS", "8.8.8.8/24"),
        ("DENY_NETWORKS", "example.org"),
        ("HOST_SLOTS", "0"),
        ("SLOTS", "-1"),
        ("NEGATIVE_TTL", "0"),
        ("TIMEOUT", "0"),
        ("BREAKER_PAUSE", "soon"),
    ],
)
def test_mistakes_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load({R + name: value})
