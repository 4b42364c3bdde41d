"""Strict parsing and normalisation of remote URLs.

Different parsers read one odd URL differently, and that gap is what attackers use. So this one accepts only plain
``http(s)://host[:port]/path?query`` and gives back parts that can be read in one way only; whoever connects uses these
parts and never the text. Host rules follow the WHATWG URL standard (https://url.spec.whatwg.org/#host-parsing), but
spellings of IPv4 addresses other than four decimal numbers are refused instead of understood.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

import idna

MAX_URL_CHARACTERS = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?", re.I | re.S
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:@]+)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PERCENT = re.compile(r"%([0-9a-fA-F]{2})")
# What may stand in a path or query as it is; everything else is percent-encoded as UTF-8 (RFC 3986, 3.3 and 3.4).
_SAFE = "/?:@!$&'()*+,;=-._~%"


class InvalidUrl(ValueError):
    """Not a URL that this service would ever fetch; the text says why."""


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A URL in normal form. ``host`` is a lower-case A-label name or an address literal without brackets."""

    scheme: str
    host: str
    port: int
    target: str  # path and query, as sent in the request line

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an address, when it is a literal."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """``host[:port]`` as in the Host header; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_remote_url(text: str) -> RemoteUrl:
    """Parse and normalise; `InvalidUrl` for anything else than a plain http(s) URL.

    The fragment is dropped; scheme and host become lower case, an international name its A-labels (IDNA 2008 with
    UTS 46 mapping); the default port vanishes; an empty path becomes ``/``.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise InvalidUrl(f"longer than {MAX_URL_CHARACTERS} characters")
    if any(character <= " " or character == "\x7f" or character == "\\" for character in text):
        raise InvalidUrl("holds white space, control characters or a backslash")
    match = _URL.fullmatch(text)
    if match is None:
        raise InvalidUrl("must be http://host/path or https://host/path")
    scheme = match["scheme"].lower()
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise InvalidUrl("the host is malformed, or there are credentials in the URL")
    port = int(authority["port"]) if authority["port"] else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise InvalidUrl("the port is out of range")
    return RemoteUrl(scheme, _normal_host(authority["host"]), port, _normal_target(match["path"], match["query"]))


def _normal_host(host: str) -> str:
    if host.startswith("["):
        try:
            return ipaddress.IPv6Address(host[1:-1]).compressed
        except ValueError:
            raise InvalidUrl("malformed IPv6 address") from None
    if "%" in host:
        raise InvalidUrl("the host is percent-encoded")
    try:
        name = idna.encode(host.rstrip(".") if host.endswith(".") and not host.endswith("..") else host, uts46=True)
    except (idna.IDNAError, UnicodeError):
        name = host.removesuffix(".").lower().encode("ascii", "replace")  # underscores and the like: judged below
    text = name.decode("ascii").lower()
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidUrl("malformed host name")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise InvalidUrl("malformed IPv4 address") from None
    return text


def _normal_target(path: str | None, query: str | None) -> str:
    target = (path or "/") + (query or "")
    if re.search(r"%(?![0-9a-fA-F]{2})", target):
        target = re.sub(r"%(?![0-9a-fA-F]{2})", "%25", target)
    encoded = quote(target, safe=_SAFE)
    return _PERCENT.sub(lambda match: match[0].upper(), encoded)
