"""Strict parsing and normalisation of remote URLs.

Different parsers can read the same odd URL differently, and attackers use that. So this parser accepts only plain
``http(s)://host[:port]/path?query``, and returns parts that are unambiguous. Connections use these parts, never the
text. Host rules follow the WHATWG URL standard (https://url.spec.whatwg.org/#host-parsing), except that spellings of
IPv4 addresses other than four decimal numbers are refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

import idna

MAX_URL_CHARACTERS = 2048  # of the text, and of its normal form, which must be parseable again
MAX_HOST_CHARACTERS = 253  # RFC 1035, 2.3.4, without the root's dot
_DEFAULT_PORTS = {"http": 80, "https": 443}
# re.ASCII: without it, re.I lets U+017F (long s) pass for the "s" of "https".
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?", re.I | re.S | re.ASCII
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:@]+)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PERCENT = re.compile(r"%([0-9a-fA-F]{2})")
_STRAY_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")
# Characters that stay in a path or query; all others are percent-encoded as UTF-8 (RFC 3986, 3.3 and 3.4).
_SAFE = "/?:@!$&'()*+,;=-._~%"


class InvalidUrl(ValueError):
    """A URL that is never fetched. The text gives the reason."""


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A URL in normal form. ``host`` is a lower-case A-label name or an address literal without brackets."""

    scheme: str
    host: str
    port: int
    target: str  # path and query, as sent in the request line

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an address, if it is a literal."""
        return address_of(self.host)

    @property
    def authority(self) -> str:
        """``host[:port]`` for the Host header, without a default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def server(self) -> str:
        """``host:port``, for any scheme."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host in the form of `RemoteUrl.host` as an address, if it is a literal."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def parse_remote_url(text: str) -> RemoteUrl:
    """Parse and normalise. Raises `InvalidUrl` for anything but a plain http(s) URL.

    The fragment is removed. Scheme and host become lower case, and an international name becomes its A-labels (IDNA
    2008 with UTS 46 mapping). A default port is removed, an empty path becomes ``/``, and dot segments are resolved.
    Parsing the result again gives an equal result.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise InvalidUrl(f"longer than {MAX_URL_CHARACTERS} characters")
    if has_forbidden_character(text):
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
    url = RemoteUrl(scheme, normal_host(authority["host"]), port, _normal_target(match["path"], match["query"]))
    if len(str(url)) > MAX_URL_CHARACTERS:
        raise InvalidUrl(f"longer than {MAX_URL_CHARACTERS} characters when written in ASCII")
    return url


def has_forbidden_character(text: str) -> bool:
    """Return whether the text has characters that some parsers drop, split at or read as a slash."""
    return any(character <= " " or character == "\x7f" or character == "\\" for character in text)


def normal_host(host: str) -> str:
    """Return a host (IPv6 in brackets) in the form of `RemoteUrl.host`. Raises `InvalidUrl`.

    A host that ends in a number must be an IPv4 address (WHATWG "ends in a number"), so ``127.1`` never reaches a
    resolver.
    """
    if host.startswith("["):
        try:
            return ipaddress.IPv6Address(host[1:-1]).compressed
        except ValueError:
            raise InvalidUrl("malformed IPv6 address") from None
    if "%" in host:
        raise InvalidUrl("the host is percent-encoded")
    name = _ascii_name(host).removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidUrl("malformed host name")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise InvalidUrl("malformed IPv4 address") from None
    return name


def _ascii_name(host: str) -> str:
    """Return lower-case A-labels. ASCII names stay as they are, because underscores and emoji domains exist outside of
    IDNA 2008."""
    if len(host) > MAX_HOST_CHARACTERS + 1:
        raise InvalidUrl("the host is too long")
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise InvalidUrl("malformed international host name") from None


def _normal_target(path: str | None, query: str | None) -> str:
    target = _without_dot_segments(path or "/") + (query or "")
    try:
        encoded = quote(_STRAY_PERCENT.sub("%25", target), safe=_SAFE)
    except UnicodeEncodeError:
        raise InvalidUrl("holds half of a surrogate pair") from None
    return _PERCENT.sub(lambda match: match[0].upper(), encoded)


def _without_dot_segments(path: str) -> str:
    """Resolve dot segments (RFC 3986, 5.2.4). ``%2e`` counts as a dot, as in browsers."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        plain = segment.lower().replace("%2e", ".")
        if plain == "..":
            del kept[-1:]
        elif plain != ".":
            kept.append(segment)
    if plain in (".", ".."):
        kept.append("")  # the path named a directory
    return "/" + "/".join(kept)
