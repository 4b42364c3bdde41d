"""Whom ``X-Forwarded-For`` names: the last address that is not a proxy's."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from trio_http1.messages import client_behind

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("203.0.113.1, 198.51.100.7", "198.51.100.7"),  # the first one is only what the client said
        ("198.51.100.7, 10.1.1.1,10.2.2.2", "198.51.100.7"),
        ("198.51.100.7:40000, [fd00::1]:80", "198.51.100.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]:443", "2001:db8::/64"),
        ("::ffff:198.51.100.7, ::ffff:10.0.0.2", "198.51.100.7"),
        ("", "10.9.9.9"),
        ("10.1.1.1", "10.9.9.9"),
        ("unknown", "10.9.9.9"),
        ("198.51.100.7, unknown", "10.9.9.9"),  # nothing before it can be believed
        ("198.51.100.7,,", "10.9.9.9"),
    ],
)
def test_the_last_address_that_is_not_a_proxys_is_the_clients(forwarded: str, client: str) -> None:
    assert client_behind(forwarded, "10.9.9.9", PROXIES) == client
