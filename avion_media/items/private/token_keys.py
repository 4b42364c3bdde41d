"""The keys that sign tokens: numbered, in one object of the bucket, which all replicas read.

A new key signs after `_ANNOUNCED_S`. By then every replica has read it: each reads the keys again after `_FRESH_S`, and
at once for a number that it does not know. An old key verifies as long as a token that it has signed can be valid.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import trio
from pydantic import BeforeValidator, PlainSerializer

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import change_object, read_if_there
from avion_media.common import keys
from avion_media.common.clock import now_s
from avion_media.common.errors import MediaError
from avion_media.common.records import JsonRecord
from avion_media.common.resources import ResourceSlot

_ANNOUNCED_S: Final = 60.0
_FRESH_S: Final = 20.0
_AGAIN_S: Final = 1.0  # requests with invented numbers of keys cause one read a second
_SECRET_BYTES: Final = 32
_MAX_NUMBER: Final = 255
_MAX_BYTES: Final = 1 << 20

_Secret = Annotated[
    bytes,
    BeforeValidator(lambda found: bytes.fromhex(found) if isinstance(found, str) else found),
    PlainSerializer(bytes.hex),
]


class TooManyKeys(MediaError):
    """All numbers of keys are in use."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key. ``added_at`` is in Unix seconds."""

    number: int
    added_at: int
    secret: _Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The keys, oldest first."""

    keys: tuple[TokenKey, ...] = ()

    def signing(self, now: float) -> TokenKey:
        """Return the key that signs: the last one that was announced long enough. There must be a key."""
        announced = [each for each in self.keys[1:] if each.added_at + _ANNOUNCED_S <= now]
        return (self.keys[:1] + tuple(announced))[-1]

    def verifying(self, now: float, max_ttl_s: float) -> dict[int, bytes]:
        """Return the secrets of the keys by which a token can be valid, by number."""
        kept = [
            key
            for key, successor in zip(self.keys, self.keys[1:], strict=False)
            if now < successor.added_at + _ANNOUNCED_S + max_ttl_s
        ]
        return {each.number: each.secret for each in (*kept, *self.keys[-1:])}

    def rotated(self, now: float, max_ttl_s: float) -> TokenKeys:
        """Return these keys and a new one, without those that verify nothing any more. Raises `TooManyKeys`."""
        used = self.verifying(now, max_ttl_s)
        number = self.keys[-1].number % _MAX_NUMBER + 1 if self.keys else 1
        if number in used:
            raise TooManyKeys(f"{len(used)} keys are in use; one is free when its tokens have expired")
        kept = tuple(each for each in self.keys if each.number in used)
        return replace(self, keys=(*kept, TokenKey(number, int(now), secrets.token_bytes(_SECRET_BYTES))))


TOKEN_KEYS: Final = JsonRecord("token_keys", TokenKeys, keys.TOKEN_SECRET, "`avion-media tokens rotate`, SignMediaUrls")


class TokenKeyring:
    """Reads and changes the keys. Every method raises `Unavailable` while the store is unavailable."""

    def __init__(self, store: ResourceSlot[ObjectStore], max_ttl_s: float) -> None:
        self._store = store
        self._max_ttl_s = max_ttl_s
        self._known = TokenKeys()
        self._read_at = -_FRESH_S
        self._reading = trio.Lock()

    async def signing(self) -> TokenKey:
        """Return the key that signs. The first call of all makes the first key."""
        known = await self._current(_FRESH_S)
        if not known.keys:
            known = await self._change(rotate=False)
        return known.signing(now_s())

    async def verifying(self, number: int) -> bytes | None:
        """Return the secret of the key with this number; None if there is none, or its tokens have all expired."""
        for age_s in (_FRESH_S, _AGAIN_S):
            secret = (await self._current(age_s)).verifying(now_s(), self._max_ttl_s).get(number)
            if secret is not None:
                return secret
        return None

    async def rotate(self) -> TokenKey:
        """Add a key, and return it. Raises `TooManyKeys`."""
        return (await self._change(rotate=True)).keys[-1]

    async def _current(self, max_age_s: float) -> TokenKeys:
        async with self._reading:
            if trio.current_time() - self._read_at >= max_age_s:
                read_at = trio.current_time()
                self._known = _parse(await read_if_there(self._store.get(), keys.TOKEN_SECRET, max_bytes=_MAX_BYTES))
                self._read_at = read_at
            return self._known

    async def _change(self, *, rotate: bool) -> TokenKeys:
        """Add a key, unless there is one already and this is no rotation. Return the keys."""
        after = TokenKeys()

        def change(stored: bytes | None) -> bytes | None:
            nonlocal after
            after = _parse(stored)
            if after.keys and not rotate:
                return None
            after = after.rotated(now_s(), self._max_ttl_s)
            return TOKEN_KEYS.write(after)

        store = self._store.get()
        await change_object(store, keys.TOKEN_SECRET, change, content_type="application/json", max_bytes=_MAX_BYTES)
        self._known = after
        return after


def _parse(stored: bytes | None) -> TokenKeys:
    return TokenKeys() if stored is None else TOKEN_KEYS.read(stored, keys.TOKEN_SECRET)
