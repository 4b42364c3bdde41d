"""Reads bearer tokens from files and headers, compares them, and knows the roles of operators.

The service keeps only the SHA-256 of a token. Tokens are random and long (32 bytes from the system's generator), so a
plain hash without a salt is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

MIN_TOKEN = 16
"""Characters of a token that this service sends: a caller's, or that of the hook."""
MIN_OPERATOR_TOKEN = 32
"""Characters of an operator's token, which must not be guessed: 16 random bytes in hex."""
_TOKEN = re.compile("[!-~]+")
MAX_NAME = 40
"""Characters of the name of an operator."""
_BEARER = re.compile(r"Bearer +([!-~]+)", re.IGNORECASE | re.ASCII)  # RFC 6750, 2.1; the scheme's case does not matter


def token_format(min_length: int) -> str:
    """Return the form of a token, for people."""
    return f"at least {min_length} printable ASCII characters without blanks"


def is_token(text: str, min_length: int) -> bool:
    """Return whether it has the form `token_format`."""
    return len(text) >= min_length and _TOKEN.fullmatch(text) is not None


class Role(IntEnum):
    """What an operator is allowed to do. Each role includes the one before."""

    VIEWER = 1
    MODERATOR = 2
    OPERATOR = 3

    def __str__(self) -> str:
        return self.name.lower()


EVIDENCE = "evidence"
"""The right to discard evidence before its time. No role includes it."""


@dataclass(frozen=True, slots=True)
class Person:
    """An operator: the name for the audit log, the role, and whether the right `EVIDENCE` was given as well."""

    name: str = ""
    role: Role = Role.OPERATOR
    may_discard: bool = False


def read_tokens(path: str, min_length: int = MIN_OPERATOR_TOKEN) -> dict[str, Person]:
    """Return the tokens in a file, and whose each is. A line is ``TOKEN``, ``TOKEN ROLE`` or ``TOKEN ROLE NAME``.

    A right can follow the role, as in ``moderator+evidence``.

    Raises OSError, or ValueError for an invalid line or an empty file.
    """
    found: dict[str, Person] = {}
    roles = {str(role): role for role in Role}
    for line in filter(str.strip, Path(path).read_text(encoding="utf-8").splitlines()):
        token, rights, name = [*line.split(maxsplit=2), "", ""][:3]
        role, plus, right = rights.partition("+")
        is_right = role in ("", *roles) and right == (EVIDENCE if plus else "")
        if not is_token(token, min_length) or not is_right or not name.isprintable() or len(name) > MAX_NAME:
            raise ValueError(
                f"{path}: expected one token per line, of {token_format(min_length)}, then perhaps one of the roles"
                f" {', '.join(roles)}, with +{EVIDENCE} if it includes that right, and a name of at most"
                f" {MAX_NAME} characters"
            )
        found[token] = Person(name, roles.get(role, Role.OPERATOR), bool(right))
    if not found:
        raise ValueError(f"{path}: expected one token per line")
    return found


def printable_name(text: str) -> str:
    """Return what of a text may be the name of an operator."""
    return "".join(filter(str.isprintable, text))[:MAX_NAME]


def token_name(key: bytes) -> str:
    """Return the name of a token for the audit log, by its `fingerprint`."""
    return f"token {key.hex()[:8]}"


def highest_role(names: str) -> tuple[Role | None, bool]:
    """Return the highest role among names that commas separate, None if no role is among them, and whether the right
    `EVIDENCE` is."""
    named = {each.strip() for each in names.split(",")}
    return max((role for role in Role if str(role) in named), default=None), EVIDENCE in named


def bearer_token(authorization: str) -> str | None:
    """Return the token in the value of an ``Authorization`` header; None if it has another scheme."""
    match = _BEARER.fullmatch(authorization)
    return match[1] if match else None


def fingerprint(token: str) -> bytes:
    """Return the SHA-256 of a token, which is all that is kept of it."""
    return hashlib.sha256(token.encode()).digest()


def is_among(shown: bytes, known: Iterable[bytes]) -> bool:
    """Return whether a fingerprint is known. All are compared, each in constant time, even after a match."""
    found = False
    for each in known:
        found |= hmac.compare_digest(shown, each)
    return found
