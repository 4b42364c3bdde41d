"""Replies of names and values: a flat list, or a map where the server speaks RESP3."""

from __future__ import annotations

from avion_media.backends.redis.connection import Reply


def as_map(reply: Reply) -> dict[bytes, Reply]:
    """Return ``[name, value, …]`` as a map. If a name is repeated, the last value counts."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def as_text(reply: Reply) -> dict[str, str]:
    """Return the same as text. Invalid UTF-8 is replaced."""
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in as_map(reply).items()}
