"""Bearer tokens: how they are read from files and headers, and compared. The service keeps only their SHA-256.

The tokens are random and long (32 bytes from the system's generator): a plain hash is enough, and needs no salt.
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
    """Whether it is of `TOKEN_FORMAT`."""
    return _TOKEN.fullmatch(text) is not None


def read_tokens(path: str) -> list[str]:
    """Return the tokens in a file, one per line. Raises OSError; ValueError for none or for other lines."""
    tokens = Path(path).read_text(encoding="ascii").split()
    if not tokens or not all(map(is_token, tokens)):
        raise ValueError(f"{path}: expected one token per line, each of {TOKEN_FORMAT}")
    return tokens


def bearer_token(authorization: str) -> str | None:
    """The token in the value of an ``Authorization`` header; None when it is of another scheme."""
    match = _BEARER.fullmatch(authorization)
    return match[1] if match else None


def fingerprint(token: str) -> bytes:
    """What is kept of a token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()


def is_among(shown: bytes, known: Iterable[bytes]) -> bool:
    """Whether a fingerprint is a known one. Each is compared, in constant time, whether an earlier one fits or not."""
    found = False
    for each in known:
        found |= hmac.compare_digest(shown, each)
    return found
