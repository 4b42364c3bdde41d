"""Tokens of private media (docs/contract.md, section 8): 36 bytes in 48 characters of base64url (RFC 4648, section 5).

======  ===============================================================================================================
bytes   what
======  ===============================================================================================================
0       number of the key
1-4     expiry, in Unix seconds
5-7     generation: the number of revocations of this media item that the signer knew of, see `revocations`
8-15    tag of the audience
16-35   the first 20 bytes of HMAC-SHA256 over the purpose, the media id and the 16 bytes before
======  ===============================================================================================================

Other servers cut long URLs, so a token holds nothing that a lookup can supply. 160 bits of MAC cannot be guessed
(RFC 2104, section 5, asks for at least 80).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

_PURPOSE: Final = b"avion-media token\n"
_AUDIENCE_PURPOSE: Final = b"avion-media audience\n"
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{48}", re.ASCII)
_AUDIENCE: Final = re.compile(r"[A-Za-z0-9._:-]{0,255}", re.ASCII)
_SIGNED_BYTES: Final = 16
_MAC_BYTES: Final = 20
MAX_GENERATION: Final = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. ``key`` is the number of its key, ``expires_at`` is in Unix seconds, ``tag`` is in hex."""

    key: int
    expires_at: int
    generation: int
    tag: str


def is_audience(text: str) -> bool:
    """Return whether a text can be an audience."""
    return _AUDIENCE.fullmatch(text) is not None


def audience_tag(media_id: str, audience: str) -> str:
    """Return the tag of an audience, in hex. It differs between media, so that tokens do not show who shares them."""
    return hashlib.sha256(_AUDIENCE_PURPOSE + f"{media_id}\n{audience}".encode()).digest()[:8].hex()


def seal(secret: bytes, media_id: str, token: Token) -> str:
    """Return a token as URLs have it, signed with the key of its number."""
    signed = (
        token.key.to_bytes(1) + token.expires_at.to_bytes(4) + token.generation.to_bytes(3) + bytes.fromhex(token.tag)
    )
    return base64.urlsafe_b64encode(signed + _mac(secret, media_id, signed)).decode()


def is_token(text: str) -> bool:
    """Return whether a text has the form of a token."""
    return _FORM.fullmatch(text) is not None


def key_number(text: str) -> int:
    """Return the number of the key of a text in the form of a token."""
    return base64.urlsafe_b64decode(text)[0]


def unseal(secret: bytes, media_id: str, text: str) -> Token | None:
    """Return what a text in the form of a token says; None if it was not signed with this key for this media item."""
    raw = base64.urlsafe_b64decode(text)
    signed, mac = raw[:_SIGNED_BYTES], raw[_SIGNED_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, media_id, signed)):
        return None
    return Token(signed[0], int.from_bytes(signed[1:5]), int.from_bytes(signed[5:8]), signed[8:].hex())


def _mac(secret: bytes, media_id: str, signed: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + f"{media_id}\n".encode() + signed, "sha256")[:_MAC_BYTES]
