"""Bearer tokens: how they are read from a header and compared. Only their SHA-256 is ever kept.

The tokens are random and long (32 bytes from the system's generator): a plain hash is enough, and needs no salt.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

MIN_TOKEN_LENGTH = 16
_BEARER = re.compile(r"Bearer +([!-~]+)", re.IGNORECASE | re.ASCII)  # RFC 6750, 2.1; the scheme's case does not matter


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
