"""The wall: which addresses, ports and hosts it lets through."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guarded_fetch import AddressGuard
from guarded_fetch.guard import AddressRefused

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255",
    "203.0.114.0", "223.255.255.255",
    "2606:4700:4700::1111", "2a00:1450:4001:800::200e", "2001:4860:4860::8888", "2001:200::1", "2400:cb00::1",
    "2c0f::1",
]  # fmt: skip

REFUSED = [
    # IPv4: this network, private, shared, loopback, link local
    "0.0.0.0", "0.1.2.3", "0.255.255.255", "10.0.0.0", "10.1.2.3", "10.255.255.255", "100.64.0.0", "100.127.255.255",
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "169.254.0.1", "172.16.0.0", "172.31.255.255", "192.168.0.1",
    # metadata and host agents of clouds
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    # protocol assignments, documentation, relays, benchmarking, multicast, reserved, broadcast
    "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    # IPv6: unspecified, loopback, IPv4-compatible, -mapped, -translated
    "::", "::1", "::7f00:1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "::2",
    # NAT64 (well-known and local), 6to4, Teredo and the rest of 2001::/23
    "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2002:808:808::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1::1", "2001:1ff:ffff::1",
    # discard only, unique local (and metadata there), link local, site local, multicast, documentation, segment ids
    "100::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "2001:db8::1", "3fff::1", "5f00::1", "2620:4f:8000::1",
    # ISATAP, in a global prefix
    "2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:10.0.0.1",
    # never assigned
    "4000::1", "8000::1", "1fff:ffff::1", "1::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2606:4700::1%1",
]  # fmt: skip


@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str, port: int) -> None:
    AddressGuard().check_address(ipaddress.ip_address(address), port)


@pytest.mark.parametrize("address", REFUSED)
def test_special_addresses_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressGuard().check_address(ipaddress.ip_address(address), 443)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.ip_addresses(network="2000::/3")))
def test_nothing_passes_that_the_standard_library_calls_special(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    try:
        AddressGuard().check_address(address, 443)
    except AddressRefused:
        return
    assert address.is_global
    assert not address.is_multicast


@pytest.mark.parametrize("port", [1, 22, 25, 79, 81, 442, 444, 3306, 6379, 8080, 8443, 9200, 65535])
def test_other_ports_are_refused(port: int) -> None:
    with pytest.raises(AddressRefused):
        AddressGuard().check_address(ipaddress.ip_address("8.8.8.8"), port)


def test_allowed_networks_pass_on_any_port_and_nothing_beside_them() -> None:
    guard = AddressGuard(allow_networks=[ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12:3456::/32")])
    for address in ("10.1.255.255", "fd12:3456::1"):
        guard.check_address(ipaddress.ip_address(address), 8080)
    for address in ("10.2.0.0", "10.0.255.255", "::ffff:10.1.0.1", "64:ff9b::a01:1", "2002:a01:1::", "fd12:3457::1"):
        with pytest.raises(AddressRefused):
            guard.check_address(ipaddress.ip_address(address), 443)
    with pytest.raises(AddressRefused):
        guard.check_address(ipaddress.ip_address("8.8.8.8"), 8080)


def test_denied_networks_come_on_top_and_win() -> None:
    guard = AddressGuard(
        deny_networks=[ipaddress.ip_network("8.8.8.0/24"), ipaddress.ip_network("2001:4860::/32")],
        allow_networks=[ipaddress.ip_network("8.8.8.8/32"), ipaddress.ip_network("2001:4860::1/128")],
    )
    for address in ("8.8.8.0", "8.8.8.8", "8.8.8.255", "2001:4860::1", "2001:4860:ffff::1"):
        with pytest.raises(AddressRefused):
            guard.check_address(ipaddress.ip_address(address), 443)
    for address in ("8.8.7.255", "8.8.9.0", "2001:4861::1"):
        guard.check_address(ipaddress.ip_address(address), 443)


@pytest.mark.parametrize("rule", ["bad.example", ".bad.example", "*.bad.example", " BAD.Example. ", "bad。example"])
def test_a_rule_means_the_host_and_all_below_it_anchored_at_dots(rule: str) -> None:
    guard = AddressGuard(deny_hosts=[rule])
    for host in ("bad.example", "a.bad.example", "a.b.bad.example"):
        assert guard.host_denied(host)
    for host in ("notbad.example", "bad.example.org", "example", "badexample", "bad.exampl", "ad.example"):
        assert not guard.host_denied(host)


def test_rules_may_be_international_or_addresses() -> None:
    guard = AddressGuard(deny_hosts=["bücher.example", "8.8.8.8", "2606:4700::0001", "[2001:4860::1]"])
    for host in ("xn--bcher-kva.example", "www.xn--bcher-kva.example", "8.8.8.8", "2606:4700::1", "2001:4860::1"):
        assert guard.host_denied(host)
    for host in ("8.8.8.9", "2606:4700::2"):
        assert not guard.host_denied(host)


def test_an_allow_list_lets_only_its_hosts_through_and_deny_wins() -> None:
    guard = AddressGuard(allow_hosts=["good.example"], deny_hosts=["not.good.example"])
    assert not guard.host_denied("good.example")
    assert not guard.host_denied("a.good.example")
    for host in ("not.good.example", "a.not.good.example", "example", "other.example", "8.8.8.8", "evilgood.example"):
        assert guard.host_denied(host)


@pytest.mark.parametrize(
    "rule", ["", "*", ".", "**.example", "a b", "http://bad.example", "10.0.0.0/8", "127.1", "bad:80"]
)
def test_a_rule_that_could_never_match_is_a_mistake(rule: str) -> None:
    with pytest.raises(ValueError, match="not a rule"):
        AddressGuard(deny_hosts=[rule])
