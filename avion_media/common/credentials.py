"""Reads bearer tokens from files and headers, and compares them. The service keeps only their SHA-256.

Tokens are random and long (32 bytes from the system's generator), so a plain hash without a salt is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

_MIN_LENGTH = 16
_TOKEN = re.compile(f"[!-~]{{{_MIN_LENGTH},}}")
TOKEN_FORMAT = f"at least {_MIN_LENGTH} printable ASCII characters without blanks"
_BEARER = re.compile(r"Bearer +([!-~]+)", re.IGNORECASE | re.ASCII)  # RFC 6750, 2.1; the scheme's case does not matter


def is_token(text: str) -> bool:
    """Return whether it has the form `TOKEN_FORMAT`."""
    return _TOKEN.fullmatch(text) is not None


def read_tokens(path: str) -> list[str]:
    """Return the tokens in a file, one per line. Raises OSError, or ValueError for an invalid line or an empty file."""
    tokens = Path(path).read_text(encoding="ascii").split()
    if not tokens or not all(map(is_token, tokens)):
        raise ValueError(f"{path}: expected one token per line, each of {TOKEN_FORMAT}")
    return tokens


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
