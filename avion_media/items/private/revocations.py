"""Revoked tokens: one record per media item in the bucket, and its copy on Redis, which readers look up.

A record has a *generation*, which grows with each revocation of its media item. A token has the generation that its
signer found. So a revocation refuses every token that was signed before it, and no clocks are compared.

A lifecycle rule removes a record `KEPT_S` after its last change, when all tokens that it concerns have expired. A later
record must not begin with a generation that tokens have already. Therefore a generation is at least the time, in units
of `_UNIT_S`.

Decision: the copy on Redis lies beside the deletion record of its media item, and the replay of the journal of
deletions restores it. One lookup reads both, and says whether one of them may be lost (`JournalReplay`). So a
revocation holds on all replicas when its call returns, and a request that finds Redis empty waits. Rejected: copies in
the memory of each replica, which a channel keeps up to date: a replica whose subscription hangs would go on serving.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from avion_media.backends.redis import Redis, load_script
from avion_media.backends.store import ObjectStore
from avion_media.backends.store.bucket import REVOCATIONS_KEPT_S
from avion_media.backends.store.contents import change_object, read_if_there
from avion_media.common import keys
from avion_media.common.clock import now_s
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.records import JsonRecord, UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.items.private.tokens import MAX_GENERATION, Token
from avion_media.items.state.status_store import key_of
from trio_redis import run_all

_EPOCH_S: Final = 1_767_225_600  # 2026-01-01 UTC
_UNIT_S: Final = 64  # 24 bits last for 34 years
_MAX_AHEAD: Final = 5000
"""How far repeated revocations of one media item may bring its generation ahead of time: 3.7 days, which is less than a
record is kept."""
_MAX_AUDIENCES: Final = 4000
"""Audiences of one record. One more makes it a revocation of all: a script of Redis must write it at once."""
_FEW: Final = 20  # audiences of a record that is written together with others
_WRITTEN_AT_ONCE: Final = 100
_AT_ONCE: Final = 16
_MAX_BYTES: Final = 4 << 20
LOOK_UP: Final = load_script("avion_media.items.private", "look_up", takes_process=True)
_READ: Final = load_script("avion_media.items.private", "read")
_WRITE: Final = load_script("avion_media.items.private", "write")


def revocation_key(media_id: str) -> str:
    """Return the key of the copy on Redis (a hash), in the cluster slot of the deletion record."""
    return key_of("media_revocation", media_id)


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens of one media item that are refused: those with a generation below ``all``, or below that of their tag."""

    generation: int
    all: int = 0
    audiences: Mapping[str, int] = field(default_factory=dict)

    def refuses(self, token: Token) -> bool:
        """Return whether a token is revoked."""
        return token.generation < max(self.all, self.audiences.get(token.tag, 0))

    def next(self, tag: str | None, now: float) -> Revocation:
        """Return the record after a revocation of all tokens, or of those with this tag. Raises `Unavailable`.

        Tags whose tokens have all expired are left out. Without room for one more, all tokens are revoked.
        """
        time = (int(now) - _EPOCH_S) // _UNIT_S
        generation = max(self.generation + 1, time)
        if generation > min(max(time, 0) + _MAX_AHEAD, MAX_GENERATION):
            raise Unavailable(Dependency.OBJECT, "the media item is revoked again and again", _UNIT_S)
        oldest = max(self.all, time - int(REVOCATIONS_KEPT_S) // _UNIT_S)
        kept = {name: each for name, each in self.audiences.items() if each > oldest}
        if tag is None or len(kept.keys() | {tag}) > _MAX_AUDIENCES:
            return Revocation(generation, generation)
        return replace(self, generation=generation, audiences={**kept, tag: generation})


NOTHING_REVOKED: Final = Revocation(0)
_ALL_REVOKED: Final = Revocation(0, MAX_GENERATION)  # of a record that this version cannot read

REVOCATION: Final = JsonRecord("revocation", Revocation, f"{keys.REVOCATION_PREFIX}<id>", "RevokeMediaUrls")


class Revocations:
    """Writes and reads the records. Every method raises `Unavailable` while the store or Redis is unavailable."""

    def __init__(self, store: ResourceSlot[ObjectStore], redis: Redis) -> None:
        self._store = store
        self._redis = redis.state

    async def record(self, tags: Mapping[str, str | None]) -> dict[str, Revocation]:
        """Record in the bucket that the tokens of these media are revoked: those with a tag, or all. Return the records
        for `publish`. After `Unavailable` or a cancel some may be written."""
        changed = await run_all([partial(self._change, *each) for each in tags.items()], _AT_ONCE)
        return dict(zip(tags, changed, strict=True))

    async def _change(self, media_id: str, tag: str | None) -> Revocation:
        key, changed = keys.revocation(media_id), NOTHING_REVOKED

        def change(stored: bytes | None) -> bytes:
            nonlocal changed
            changed = _parse(stored, key).next(tag, now_s())
            return REVOCATION.write(changed)

        await change_object(self._store.get(), key, change, content_type="application/json", max_bytes=_MAX_BYTES)
        return changed

    async def stored(self, media_id: str) -> Revocation:
        """Return the record in the bucket."""
        key = keys.revocation(media_id)
        return _parse(await read_if_there(self._store.get(), key, max_bytes=_MAX_BYTES), key)

    async def _stored_or_all(self, media_id: str) -> Revocation:
        try:
            return await self.stored(media_id)
        except UnreadableRecord:
            return _ALL_REVOKED

    async def generations(self, media_ids: Collection[str]) -> dict[str, int]:
        """Return the generations that Redis has of these media, 0 for those that were not revoked."""
        names = {revocation_key(each): each for each in media_ids}
        found = await self._redis.run_in_groups(_READ, list(names))
        return {names[key]: int(generation) for key, generation in found.items()}

    async def restore(self, since: datetime | None) -> None:
        """Copy the records that were changed after ``since`` to Redis. One that cannot be read refuses all tokens."""
        async for page in self._store.get().list(keys.REVOCATION_PREFIX):
            changed = [each.key for each in page if since is None or each.last_modified >= since]
            media_ids = [key.removeprefix(keys.REVOCATION_PREFIX) for key in changed]
            found = await run_all([partial(self._stored_or_all, each) for each in media_ids], _AT_ONCE)
            await self.publish(dict(zip(media_ids, found, strict=True)))

    async def publish(self, revocations: Mapping[str, Revocation]) -> None:
        """Write records to Redis, where all replicas find them, unless there are later ones."""
        by_key = {revocation_key(media_id): each for media_id, each in revocations.items()}
        small = [key for key, each in by_key.items() if len(each.audiences) <= _FEW]
        for written, most in ((small, _WRITTEN_AT_ONCE), (list(by_key.keys() - small), 1)):
            args = (round(REVOCATIONS_KEPT_S * 1000),)
            await self._redis.run_in_groups(_WRITE, written, args, of_each=lambda key: _fields(by_key[key]), most=most)


def _parse(stored: bytes | None, key: str) -> Revocation:
    return NOTHING_REVOKED if stored is None else REVOCATION.read(stored, key)


def _fields(revocation: Revocation) -> Sequence[str | int]:
    audiences = " ".join(f"{tag} {generation}" for tag, generation in revocation.audiences.items())
    return revocation.generation, revocation.all, audiences
