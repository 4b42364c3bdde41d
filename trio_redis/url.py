"""Redis URLs: what they say of where to begin, with which credentials, and of the master that is meant.

    redis://[user:password@]host[:port][,host[:port]…][/database]          rediss:// with TLS
    redis+sentinel://[user:password@]host[:port],…/master[/database]       rediss+sentinel://
    redis+cluster://…                                                      the same as redis://

Parameters: ``ssl_ca_certs`` (a PEM file, in place of the system's authorities), ``sentinel_username`` and
``sentinel_password`` (the Sentinels' own; user and password in front of the host are the servers').
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

_SCHEMES = frozenset({f"{scheme}{kind}" for scheme in ("redis", "rediss") for kind in ("", "+cluster", "+sentinel")})
_PORT = 6379
_SENTINEL_PORT = 26379
_PARAMETERS = frozenset({"ssl_ca_certs", "sentinel_username", "sentinel_password"})


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in; with neither, nobody does."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """What a URL leads to. ``seeds`` are asked in turn what they are: server, Sentinel, or node of a cluster."""

    seeds: tuple[Address, ...]
    master: str = ""  # its name at the Sentinels; needed only where they watch several
    database: int = 0
    credentials: Credentials = Credentials()
    seed_credentials: Credentials = Credentials()  # the Sentinels' own, where the URL says that they are Sentinels
    tls: bool = False
    ssl_ca_certs: str = ""


def read_redis_url(url: str) -> RedisTarget:
    """Return what a URL leads to. Raises ValueError for what is none; the message repeats nothing of the URL."""
    try:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError:
        raise _not_a_url() from None
    if parts.scheme not in _SCHEMES or query.keys() - _PARAMETERS:
        raise _not_a_url()
    sentinel = parts.scheme.endswith("+sentinel")
    login, _, hosts = parts.netloc.rpartition("@")
    seeds = tuple(_address(each, _SENTINEL_PORT if sentinel else _PORT) for each in hosts.split(","))
    master, database = _path(parts.path, sentinel)
    credentials = _login(login)
    of_sentinels = Credentials(query.get("sentinel_username", ""), query.get("sentinel_password", ""))
    return RedisTarget(
        seeds,
        master,
        database,
        credentials,
        seed_credentials=of_sentinels if sentinel else credentials,
        tls=parts.scheme.startswith("rediss"),
        ssl_ca_certs=query.get("ssl_ca_certs", ""),
    )


def _not_a_url() -> ValueError:
    return ValueError(
        "expected redis://host:port/database, rediss://… (TLS), several hosts as host:port,host:port,"
        " or redis+sentinel://host:port,host:port/master/database"
    )


def _address(text: str, default_port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        if not parts.hostname or parts.path or parts.query:
            raise ValueError(text)
        return Address(parts.hostname, parts.port or default_port)
    except ValueError:
        raise _not_a_url() from None


def _path(path: str, sentinel: bool) -> tuple[str, int]:
    """The master's name and the database. A plain URL may lead to a Sentinel, too: what is no number is a name."""
    steps = [unquote(each) for each in path.strip("/").split("/") if each]
    master = steps.pop(0) if steps and (sentinel or not steps[0].isdecimal()) else ""
    database = steps.pop(0) if steps else "0"
    if steps or not (database.isascii() and database.isdecimal()):
        raise _not_a_url()
    return master, int(database)


def _login(text: str) -> Credentials:
    username, _, password = text.partition(":")
    return Credentials(unquote(username), unquote(password))
