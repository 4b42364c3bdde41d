"""Remote URLs and redirect targets: what is let through has one meaning, the same for every reader."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from guarded_fetch.fetcher import _redirect_target
from guarded_fetch.guard import AddressGuard, AddressRefused
from guarded_fetch.tests.urls import HOSTILE
from guarded_fetch.url import MAX_URL_CHARACTERS, InvalidUrl, RemoteUrl, parse_remote_url
from tests.fuzz.parser import parser_target

_BASE = parse_remote_url("https://public.example/dir/picture.png?x=1")
_GUARD = AddressGuard(deny_hosts=["denied.example"])
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # WHATWG: a name whose last label is one is an address, or nothing
_PLAIN = ["http://public.example/a/../b?c=%2e#d", "HTTPS://Bücher.Example:443/%7Euser", "http://[2606:4700::1]:80/"]


def _seeds() -> list[bytes]:
    texts = [*HOSTILE, *_PLAIN, "/path", "//host.example/", "?query", "../..", "https:x"]
    return [text.replace("{port}", ":80").encode("utf-8", "surrogatepass") for text in texts]


def _feed(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace")
    try:
        target = _redirect_target(_BASE, text)
    except AddressRefused:
        pass
    else:
        _check(target)
        assert target.scheme == "https", "led back to http"
    url = parse_remote_url(text)
    _check(url)
    try:
        _GUARD.host_denied(url.host)
        if url.address is not None:
            _GUARD.check_address(url.address, url.port)
    except AddressRefused:
        pass
    else:
        assert url.address is None or url.address.is_global, "a private address was let through"


def _check(url: RemoteUrl) -> None:
    text = str(url)
    assert len(text) <= MAX_URL_CHARACTERS
    assert text.isascii()
    assert text.isprintable()
    assert not set(text) & set(' \\"<>^`{|}'), "a character that some readers split at"
    assert parse_remote_url(text) == url, "not its own normal form"
    # The most used of the other readers agrees on where to connect.
    parts = urlsplit(text)
    assert (parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[url.scheme]) == (
        url.scheme,
        url.host,
        url.port,
    ), "two readers, two servers"
    assert parts.username is parts.password is None
    assert url.target.startswith("/")
    if url.address is None:
        assert not _NUMBER.fullmatch(url.host.rpartition(".")[2]), "an address in disguise"
    else:
        assert str(ipaddress.ip_address(url.host)) == url.host


TARGET = parser_target("remote-urls", _seeds, _feed, allowed=(InvalidUrl, UnicodeDecodeError), max_bytes=2600)
