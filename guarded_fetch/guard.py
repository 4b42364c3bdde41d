"""Decides which hosts and addresses may be contacted. It protects the internal network from untrusted URLs.

IPv4 has a deny list, from IANA's special-purpose registry (https://www.iana.org/assignments/iana-ipv4-special-registry)
and the clouds' metadata addresses. IPv6 has an allow list: global unicast (2000::/3) without the parts that embed IPv4
or are special (https://www.iana.org/assignments/iana-ipv6-special-registry), so NAT64, mapped and unique-local forms
are excluded. A NAT64 prefix of the operator's own network looks like any other prefix (RFC 6052, 2.2), so the operator
must deny it as well.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from guarded_fetch.url import InvalidUrl, normal_host

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
PUBLIC_PORTS = frozenset({80, 443})

_DENIED_IPV4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; also a cloud's metadata (100.100.100.200)
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent
        "169.254.0.0/16",  # link local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments; also a cloud's metadata (192.0.0.192)
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved and broadcast
    )
)
_ISATAP_IDENTIFIERS = frozenset({0x0000_5EFE, 0x0200_5EFE})  # followed by the IPv4 address
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_DENIED_IPV6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID and other protocol assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 embeds any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


class AddressRefused(Exception):
    """The guard refuses the address. All refusals look the same outside, so that they reveal nothing."""


class AddressGuard:
    """Rules for hosts and addresses, from one configuration.

    Host rules are names or address literals: ``example.org`` (or ``*.example.org``, ``.example.org``) means the host
    itself and all names below it. With ``allow_hosts`` only those are allowed; ``deny_hosts`` wins. ``allow_networks``
    allows networks that would be refused, on any port: for tests, and for peers inside the operator's network.
    ``deny_networks`` wins over everything. Raises `ValueError` for a rule that is not a host, because it would never
    match.
    """

    def __init__(
        self,
        *,
        deny_hosts: Iterable[str] = (),
        allow_hosts: Iterable[str] = (),
        deny_networks: Sequence[IpNetwork] = (),
        allow_networks: Sequence[IpNetwork] = (),
    ) -> None:
        self._deny_hosts = frozenset(_rule(each) for each in deny_hosts)
        self._allow_hosts = frozenset(_rule(each) for each in allow_hosts)
        self._deny_networks = tuple(deny_networks)
        self._allow_networks = tuple(allow_networks)

    def host_denied(self, host: str) -> bool:
        """Return whether the operator's lists refuse this host (a name or a literal, in normal form)."""
        if covers(host, self._deny_hosts):
            return True
        return bool(self._allow_hosts) and not covers(host, self._allow_hosts)

    def check_address(self, address: IpAddress, port: int) -> None:
        """Raise `AddressRefused` unless a connection to this address and port is allowed."""
        if _is_in(address, self._deny_networks):
            raise AddressRefused(f"address {address}")
        if _is_in(address, self._allow_networks):
            return
        if port not in PUBLIC_PORTS:
            raise AddressRefused(f"port {port}")
        if isinstance(address, ipaddress.IPv4Address):
            denied = _is_in(address, _DENIED_IPV4)
        else:
            denied = address not in _GLOBAL_IPV6 or _is_in(address, _DENIED_IPV6) or _is_isatap(address)
            denied = denied or address.scope_id is not None
        if denied:
            raise AddressRefused(f"address {address}")


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    """Return whether the interface identifier embeds an IPv4 address for a tunnel inside a site (RFC 5214, 6.1)."""
    return int(address) >> 32 & 0xFFFFFFFF in _ISATAP_IDENTIFIERS


def _is_in(address: IpAddress, networks: Iterable[IpNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _rule(text: str) -> str:
    host = text.strip()
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    try:
        return normal_host(host.removeprefix("*").removeprefix("."))
    except InvalidUrl as error:
        raise ValueError(f"not a rule for hosts: {text!r} ({error})") from None


def covers(host: str, rules: frozenset[str]) -> bool:
    """Return whether a host in normal form, or any domain above it, is in ``rules``. Whole labels are compared."""
    labels = host.split(".")
    return any(".".join(labels[start:]) in rules for start in range(len(labels)))
