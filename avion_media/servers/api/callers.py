"""Callers and their permissions: reads the callers' file, and checks every call at its start (docs/authentication.md).

The file is TOML, one table for each caller::

    [callers.gateway]
    methods = ["RequestMediaUpload", "CompleteMediaUpload", "GetMediaStatus", "WatchMediaStatus"]
    tokens_sha256 = ["2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"]
    certificates = ["spiffe://avion.example/gateway", "gateway.avion.internal"]

Tokens are given as the SHA-256 of their text in hex; there can be several, while one is being replaced. Certificates
are matched by a name in them (subjectAltName): a URI, compared exactly, or a DNS name; never by their common name,
never by a pattern.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from avion_media.common.credentials import bearer_token, fingerprint, is_among
from avion_media.common.wire.avion import media_pb2 as wire
from trio_grpc import CallContext, Code, RpcError

ANY_METHOD = "*"
_SERVICE = wire.DESCRIPTOR.services_by_name["MediaService"]
_PREFIX = f"/{_SERVICE.full_name}/"
METHODS = frozenset(_SERVICE.methods_by_name)
_FOR_EVERYBODY = "/grpc.health.v1.Health/Check"  # kubelets have no credentials; Check ends at once, unlike Watch
_FOR_EVERY_CALLER = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_KEYS = frozenset({"methods", "tokens_sha256", "certificates"})


class InvalidCallers(ValueError):
    """The callers' file is invalid. The text says where and why, and contains no secret."""


Name = tuple[str, str]
"""Kind (``URI`` or ``DNS``) and value of a name in a certificate; DNS names in lower case."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One program that may make calls, and its credentials."""

    name: str
    methods: frozenset[str]
    """Its methods of MediaService."""
    tokens: tuple[bytes, ...] = ()
    """SHA-256 of its tokens."""
    certificates: frozenset[Name] = frozenset()
    """Names; its certificate has one of them."""

    def may_call(self, path: str) -> bool:
        """Return whether a path such as ``/avion.MediaService/GetMediaStatus`` is one of its methods."""
        return path.startswith(_FOR_EVERY_CALLER) or (
            path.startswith(_PREFIX) and path.removeprefix(_PREFIX) in self.methods
        )


Callers = tuple[Caller, ...]


class Authoriser:
    """Checks every call at its start: sets `CallContext.caller`, or refuses. A refusal reveals nothing.

    ``callers`` returns the present ones. Health/Check is open to all; Health/Watch and reflection are open to every
    caller. Any other method that the caller is not allowed to use is PERMISSION_DENIED, whether it exists or not.
    """

    def __init__(self, callers: Callable[[], Callers], *, tokens: bool, certificates: bool) -> None:
        self._callers = callers
        self._tokens = tokens
        self._certificates = certificates

    def __call__(self, call: CallContext) -> None:
        """Raise `RpcError` unless this call is allowed."""
        if call.method == _FOR_EVERYBODY:
            return
        caller = self._caller_of(call)
        if caller is None:
            raise RpcError(Code.UNAUTHENTICATED, "missing or invalid credentials")
        call.caller = caller.name
        if not caller.may_call(call.method):
            raise RpcError(Code.PERMISSION_DENIED, "caller is not allowed to call this method")

    def _caller_of(self, call: CallContext) -> Caller | None:
        authorization = call.metadata.get("authorization")
        if self._tokens and authorization is not None:  # the caller chose to authenticate by it
            token = bearer_token(str(authorization))
            return None if token is None else self._by_token(fingerprint(token))
        if self._certificates and call.peer.certificate is not None:
            return self._by_certificate(call.peer.certificate)
        return None

    def _by_token(self, shown: bytes) -> Caller | None:
        known = [caller for caller in self._callers() if is_among(shown, caller.tokens)]
        return known[0] if known else None

    def _by_certificate(self, certificate: Mapping[str, Any]) -> Caller | None:
        names = frozenset(_names(certificate))
        return next((caller for caller in self._callers() if names & caller.certificates), None)


def _names(certificate: Mapping[str, Any]) -> Iterable[Name]:
    for kind, name in certificate.get("subjectAltName", ()):
        yield kind, name.lower() if kind == "DNS" else name


def parse_callers(text: str) -> Callers:
    """Read the callers' file. Raises `InvalidCallers` for any error."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidCallers(f"no TOML: {error}") from None
    if document.keys() != {"callers"} or not isinstance(document["callers"], dict) or not document["callers"]:
        raise InvalidCallers("expected tables [callers.NAME] and nothing else")
    callers = tuple(_caller(name, table) for name, table in document["callers"].items())
    _check_distinct(callers)
    return callers


def _caller(name: str, table: Any) -> Caller:
    where = f"[callers.{name}]"
    if not _NAME.fullmatch(name):
        raise InvalidCallers(f"{where}: a name is lower-case letters, digits, - and _")
    if not isinstance(table, dict) or not table.keys() <= _KEYS:
        raise InvalidCallers(f"{where}: expected {', '.join(sorted(_KEYS))}")
    methods = frozenset(_strings(where, table, "methods"))
    if ANY_METHOD in methods:
        methods = METHODS
    if not methods or not methods <= METHODS:
        raise InvalidCallers(f"{where}: methods are * or some of {', '.join(sorted(METHODS))}")
    hashes = _strings(where, table, "tokens_sha256")
    if not all(map(_SHA256.fullmatch, hashes)):
        raise InvalidCallers(f"{where}: tokens_sha256 are 64 hex digits each (never the tokens themselves)")
    certificates = frozenset(_certificate(where, each) for each in _strings(where, table, "certificates"))
    if not hashes and not certificates:
        raise InvalidCallers(f"{where}: needs tokens_sha256 or certificates")
    return Caller(name, methods, tuple(map(bytes.fromhex, hashes)), certificates)


def _certificate(where: str, name: str) -> Name:
    if not name or "*" in name:
        raise InvalidCallers(f"{where}: certificates are whole URIs or DNS names")
    return ("URI", name) if "://" in name else ("DNS", name.lower())


def _strings(where: str, table: Mapping[str, Any], key: str) -> list[str]:
    values = table.get(key, [])
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise InvalidCallers(f"{where}: {key} is a list of strings")
    return values


def _check_distinct(callers: Callers) -> None:
    """Check that no two callers have the same credential."""
    tokens = [token for caller in callers for token in caller.tokens]
    names = [name for caller in callers for name in caller.certificates]
    if len({*tokens}) != len(tokens) or len({*names}) != len(names):
        raise InvalidCallers("the same token or certificate twice")
