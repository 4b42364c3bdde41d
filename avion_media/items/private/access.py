"""Signs, checks and revokes tokens of private media."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Final

from avion_media.common.clock import now_s
from avion_media.common.ids import MediaId
from avion_media.items.deletion.replay import JournalReplay
from avion_media.items.private.token_keys import TokenKeyring
from avion_media.items.private.tokens import Token, audience_tag, is_token, key_number, seal, unseal
from trio_redis import run_all

MAX_CACHED_S: Final = 60
"""How long a cache may serve a private file after its token was revoked."""


class Refusal(Enum):
    """Why a token does not open its media item. The first that applies is the answer."""

    FORGED = "media item not found"
    REVOKED = "this token was revoked"
    DELETED = "this media item was deleted"
    EXPIRED = "this token has expired"


class PrivateMedia:
    """The tokens of one bucket and one Redis. Every method raises `Unavailable` while one of them is unavailable."""

    def __init__(self, replay: JournalReplay, max_ttl_s: float) -> None:
        self._replay = replay
        self.keyring = TokenKeyring(replay.items.store, max_ttl_s)

    async def sign(self, media_ids: Sequence[str], ttl_s: float, audience: str) -> tuple[dict[str, str], datetime]:
        """Return a token for each media item that is not deleted, and when all of them expire."""
        key, expires_at = await self.keyring.signing(), math.ceil(now_s() + ttl_s)
        replay = self._replay
        reads = partial(replay.records.get_many, media_ids), partial(replay.revocations.generations, media_ids)
        records, generations = await replay.with_complete_records(media_ids, partial(run_all, reads))
        tokens = {
            media_id: seal(
                key.secret,
                media_id,
                Token(key.number, expires_at, generations[media_id], audience_tag(media_id, audience)),
            )
            for media_id in media_ids
            if media_id not in records or not records[media_id].is_deleted
        }
        return tokens, datetime.fromtimestamp(expires_at, UTC)

    async def check(self, media_id: MediaId, text: str) -> int | Refusal:
        """Return for how many seconds, at least 1, a token opens its media item; otherwise why it does not."""
        secret = await self.keyring.verifying(key_number(text)) if is_token(text) else None
        token = None if secret is None else unseal(secret, media_id.text, text)
        if token is None:
            return Refusal.FORGED
        is_deleted, revocation = await self._replay.look_up_private(media_id.text, token.tag)
        left_s = token.expires_at - now_s()
        if revocation.refuses(token):
            return Refusal.REVOKED
        if is_deleted:
            return Refusal.DELETED
        return math.ceil(left_s) if left_s > 0 else Refusal.EXPIRED

    async def revoke(self, media_ids: Sequence[str], audience: str) -> None:
        """Refuse all tokens of these media that were signed before now: those of an audience, or all.

        After `Unavailable` or a cancel some may be revoked. It can be repeated.
        """
        tags = {each: audience_tag(each, audience) if audience else None for each in media_ids}
        revocations = self._replay.revocations
        revoked = await revocations.record(tags)
        await self._replay.with_complete_records(media_ids, partial(revocations.publish, revoked))
