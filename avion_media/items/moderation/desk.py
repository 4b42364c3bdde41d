"""Who decides about which held media item, and decisions that do not apply yet.

A moderator claims a media item for some minutes, so that no two look at the same one. A decision applies after a few
seconds, so that taking it back undoes all of it. All claims are in one hash on Redis. If Redis loses it, held media
wait as before, and decisions of the last seconds are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from avion_media.backends.redis import Redis, as_map, load_script
from avion_media.common.clock import now_s
from avion_media.common.records import JsonRecord
from avion_media.items.moderation.records import Ground

CLAIM_S: Final = 600.0
UNDO_S: Final = 8.0
_CARRY_OUT_S: Final = 60.0  # then another process carries a decision out
_KEY: Final = "media_review_claims"
_CHANGE = load_script("avion_media.items.moderation", "change_claim")


@dataclass(frozen=True, slots=True)
class Moderator:
    """Who reviews: a name for the audit log, and the browser, which alone decides whose a claim is."""

    name: str
    browser: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim by a moderator until ``until`` (times in Unix seconds), who saw the media item first at ``since``.

    ``decision`` is the name of an action, empty for none; it applies at ``due``, with ``note``. ``begun``: until when a
    process has taken it to carry it out; from then on it cannot be taken back. ``ground``: of a block.
    """

    who: str
    browser: str
    since: float
    until: float
    decision: str = ""
    note: str = ""
    due: float = 0.0
    begun: float = 0.0
    ground: Ground = Ground.UNSPECIFIED

    @property
    def is_over(self) -> bool:
        """Whether anybody may have the media item."""
        return not self.decision and self.until <= now_s()


CLAIM: Final = JsonRecord("claim", Claim, f"{_KEY} <id>", "moderators")


class Desk:
    """The claims of all moderators. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def claims(self) -> dict[str, Claim]:
        """Return the claims that are not over, by media id."""
        return {media_id: claim for media_id, (claim, _) in (await self._read_all()).items() if not claim.is_over}

    async def claim(self, media_id: str, by: Moderator, *, since: float | None = None) -> Claim | None:
        """Claim a media item, or renew the claim. Return None if another moderator has it, or it is decided."""
        found = await self._read(media_id)
        if found is not None and not found[0].is_over and (found[0].browser != by.browser or found[0].decision):
            return None
        claim = Claim(by.name, by.browser, now_s() if since is None else since, now_s() + CLAIM_S)
        return claim if await self._change(media_id, found, claim) else None

    async def decide(
        self, media_id: str, by: Moderator, decision: str, note: str, ground: Ground = Ground.UNSPECIFIED
    ) -> bool:
        """Note a decision. Return False if the media item is not this moderator's, or was decided."""
        found = await self._read(media_id)
        if found is None or found[0].is_over or found[0].browser != by.browser or found[0].decision:
            return False
        decided = replace(found[0], decision=decision, note=note, ground=ground, due=now_s() + UNDO_S)
        return await self._change(media_id, found, decided)

    async def take_back(self, media_id: str, by: Moderator) -> bool:
        """Take a decision back, and claim the media item again, before all others.

        Return False if it is too late, or another moderator's.
        """
        found = await self._read(media_id)
        if found is None or found[0].browser != by.browser or not found[0].decision or found[0].begun:
            return False
        return await self._change(media_id, found, Claim(by.name, by.browser, 0.0, now_s() + CLAIM_S))

    async def give_back(self, media_id: str, by: Moderator) -> None:
        """End a claim. A decision stays."""
        found = await self._read(media_id)
        if found is not None and found[0].browser == by.browser and not found[0].decision:
            await self._change(media_id, found, None)

    async def take_due(self) -> tuple[str, Claim] | None:
        """Return a decision that applies by now, for this process alone; None if there is none. See `finish`."""
        for media_id, found in (await self._read_all()).items():
            claim = found[0]
            if claim.decision and claim.due <= now_s() and claim.begun <= now_s():
                taken = replace(claim, begun=now_s() + _CARRY_OUT_S)
                if await self._change(media_id, found, taken):
                    return media_id, taken
            elif claim.is_over:
                await self._change(media_id, found, None)
        return None

    async def finish(self, media_id: str, taken: Claim) -> None:
        """End the claim of a decision that was carried out, or cannot be."""
        await self._change(media_id, (taken, CLAIM.write(taken)), None)

    async def _read(self, media_id: str) -> tuple[Claim, bytes] | None:
        raw = await self._redis.execute("HGET", _KEY, media_id)
        return None if raw is None else _parse(raw)

    async def _read_all(self) -> dict[str, tuple[Claim, bytes]]:
        stored = as_map(await self._redis.execute("HGETALL", _KEY))
        read = {media_id.decode(): _parse(raw) for media_id, raw in stored.items()}
        return {media_id: found for media_id, found in read.items() if found is not None}

    async def _change(self, media_id: str, before: tuple[Claim, bytes] | None, after: Claim | None) -> bool:
        raw = b"" if before is None else before[1]
        new = b"" if after is None else CLAIM.write(after)
        return bool(await self._redis.run(_CHANGE, (_KEY,), (media_id, raw, new)))


def _parse(raw: bytes) -> tuple[Claim, bytes] | None:
    claim = CLAIM.read_or_skip(raw, _KEY)
    return None if claim is None else (claim, raw)
