"""Reviewing: one held media item after the other, decided by a moderator.

`Reviews` of the domain holds media and releases them; here are whose turn it is and what a moderator has done so far.
Decisions are rows of the table of operations. They are carried out some seconds later, by this process or, if it ended,
by another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from avion_media.common.clock import now_s
from avion_media.common.credentials import Person, Role
from avion_media.common.errors import MediaError, Unavailable
from avion_media.common.records import JsonRecord
from avion_media.items.moderation import MAX_NOTE, Ground
from avion_media.items.moderation.desk import UNDO_S, Claim, Desk, Moderator
from avion_media.items.moderation.records import Held
from avion_media.operations.operation import Order, Outcome
from avion_media.operations.table import Operations
from avion_media.process.runtime import Runtime
from trio_redis import Backoff
from trio_telemetry import get_logger

COUNTED: Final = {"release": "released", "refuse": "refused", "refuse_host": "refused"}
"""The decisions, and as what a round counts them. The last one also blocks the host of a remote file."""
REASONS: Final = {
    "same": "Same picture as the entry",
    "version": "Another version of it",
    "other": "Illegal for another reason",
    "rules": "Against the rules of this server",
}
"""Why something is blocked, by code: the beginning of a decision's note."""
_ROUND: Final = "media_review:"
_ROUND_S: Final = 3600
_AHEAD: Final = 2  # claimed at once, so that the next one is there when the first is decided
_LOOK_S: Final = 30.0  # for decisions of processes that have ended
_log = get_logger(path="reviews")


@dataclass(frozen=True, slots=True)
class Round:
    """What one moderator has done since the start. Times are in Unix seconds.

    ``notes``: how many had words of the moderator. ``last`` is the item that was decided last, with ``decision``, which
    applies at ``due``; empty if it was taken back.
    """

    began: float
    released: int = 0
    refused: int = 0
    hosts: int = 0
    notes: int = 0
    skipped: Sequence[str] = ()
    last: str = ""
    decision: str = ""
    due: float = 0.0
    lost: str = ""  # the item about which the last decision changed nothing

    @property
    def decided(self) -> int:
        """How many items were decided."""
        return self.released + self.refused

    def reported(self, lost: str) -> Round:
        """Return the round after a page has reported ``lost``."""
        return replace(self, lost="") if self.lost == lost else self

    def counting(self, decision: str, note: str, change: int) -> Round:
        """Return the round with one decision more (``change`` is 1) or less (-1)."""
        counted = COUNTED[decision]
        hosts = self.hosts + change * (decision == "refuse_host")
        notes = self.notes + change * (note not in ("", *REASONS.values()))
        counts = {counted: getattr(self, counted) + change, "notes": notes, "hosts": hosts}
        return replace(self, **counts)


ROUND: Final = JsonRecord("review", Round, f"{_ROUND}<browser>", "moderators")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a moderator sees. ``round`` has only those skipped items that still wait and that nobody else has;
    ``skipped`` counts all. ``claimed`` are the present item and the next one. ``undo_s``: seconds for which the last
    decision can still be taken back; 0 if it cannot. ``lost``: the claim of another moderator, who has the item whose
    claim ran out; None if nobody has it. ``others``: how many waiting items other moderators have claimed.
    ``waiting`` are all that wait."""

    round: Round
    skipped: int
    claimed: Sequence[tuple[Held, Claim]]
    left: int
    undo_s: float
    lost: Claim | None
    others: int
    waiting: Sequence[Held]


class Review:
    """The rounds of all moderators. Every method but `run` raises `Unavailable` while the store or Redis is."""

    def __init__(self, runtime: Runtime, operations: Operations) -> None:
        self._redis = runtime.redis
        self._waiting = runtime.moderation.reviews.waiting
        self._records = runtime.moderation.records
        self._operations = operations
        self.desk = Desk(runtime.redis)
        self._decided = trio.Event()

    def require(self, who: Person) -> None:
        """Raise `NotAllowed` unless the person has a right to every decision."""
        for name in ("release", "refuse", "block_host"):
            self._operations.require(name, who)

    async def start(self, by: Moderator) -> None:
        """Begin a round, with what was skipped before."""
        await self._write(by, Round(now_s()))

    async def turn(self, by: Moderator) -> Turn | None:
        """Return what is to be decided, claimed for this moderator; None if no round has begun."""
        found = await self._read(by)
        if found is None:
            return None
        claims = await self.desk.claims()
        last = claims.get(found.last)
        undo_s = last.due - now_s() if last is not None and last.decision and not last.begun else 0.0
        lost = claims.get(found.lost)
        waiting = await self._waiting()
        offered = [each for each in waiting if self._is_offered(each, claims, by, found)]
        offered.sort(key=lambda each: claims[each.media_id].since if each.media_id in claims else math.inf)
        claimed: list[tuple[Held, Claim]] = []
        for held in offered:
            before = claims.get(held.media_id)
            claim = await self.desk.claim(held.media_id, by, since=None if before is None else before.since)
            if claim is not None:
                claimed.append((held, claim))
            if len(claimed) == _AHEAD:
                break
        theirs = lost if lost is not None and lost.browser != by.browser else None
        others = sum(each.media_id in claims and claims[each.media_id].browser != by.browser for each in waiting)
        free = {each.media_id for each in waiting} - set(claims)
        skipped = len(found.skipped)
        found = replace(found, skipped=[each for each in found.skipped if each in free])
        return Turn(found, skipped, claimed, len(offered), max(0.0, undo_s), theirs, others, waiting)

    @staticmethod
    def _is_offered(held: Held, claims: Mapping[str, Claim], by: Moderator, found: Round) -> bool:
        claim = claims.get(held.media_id)
        if claim is not None:
            return claim.browser == by.browser and not claim.decision
        return held.media_id not in found.skipped

    async def decide(
        self,
        by: Moderator,
        media_id: str,
        decision: str,
        note: str,
        seen: str = "",
        *,
        ground: Ground = Ground.UNSPECIFIED,
    ) -> bool:
        """Note a decision, one of `COUNTED`. Return False if the claim has run out or somebody else has decided.
        ``seen``: the `Round.lost` that the page has reported. ``ground``: of a block."""
        found = (await self._read(by) or Round(now_s())).reported(seen)
        is_noted = media_id in {each.media_id for each in await self._waiting()}
        is_noted = is_noted and await self.desk.decide(media_id, by, decision, note, ground)
        if is_noted:
            counted = found.counting(decision, note, 1)
            found = replace(counted, last=media_id, decision=decision, due=now_s() + UNDO_S)
            self._decided.set()
        else:
            found = replace(found, lost=media_id)
        await self._write(by, found)
        return is_noted

    async def take_back(self, by: Moderator) -> bool:
        """Take the last decision back. Return False if it is too late."""
        found = await self._read(by)
        claim = (await self.desk.claims()).get(found.last) if found is not None else None
        if found is None or claim is None or not await self.desk.take_back(found.last, by):
            return False
        await self._write(by, replace(found.counting(claim.decision, claim.note, -1), decision=""))
        return True

    async def skip(self, by: Moderator, media_id: str, seen: str = "") -> None:
        """Leave an item to others, or for later. For ``seen`` see `decide`."""
        found = (await self._read(by) or Round(now_s())).reported(seen)
        await self._write(by, replace(found, skipped=[*found.skipped, media_id]))
        await self.desk.give_back(media_id, by)

    async def stop(self, by: Moderator) -> None:
        """End the round, and give back what is claimed."""
        for media_id, claim in (await self.desk.claims()).items():
            if claim.browser == by.browser:
                await self.desk.give_back(media_id, by)
        await self._redis.execute("DEL", _key(by))

    async def run(self) -> None:
        """Carry decisions out when they apply. Never returns. Waits during outages."""
        pause = Backoff()
        while True:
            self._decided = trio.Event()
            try:
                await self.carry_out_due()
                due = [each.due for each in (await self.desk.claims()).values() if each.decision and not each.begun]
                pause.succeeded()
                wait_s = min([_LOOK_S, *(each - now_s() for each in due)])
            except Unavailable:
                wait_s = pause.failed()
            with trio.move_on_after(max(wait_s, 0.0)):
                await self._decided.wait()

    async def carry_out_due(self) -> int:
        """Carry out all decisions that apply by now. Return how many."""
        count = 0
        while (found := await self.desk.take_due()) is not None:
            media_id, claim = found
            try:
                await self._carry_out(media_id, claim)
            except Unavailable:
                raise  # it is carried out once more when the claim of this process has run out
            except MediaError as error:
                _log.error("review.not_carried_out", media_id=media_id, decision=claim.decision, error=str(error))
            await self.desk.finish(media_id, claim)
            count += 1
        return count

    async def _carry_out(self, media_id: str, claim: Claim) -> None:
        who = Person(claim.who, Role.MODERATOR)  # as when it was decided
        outcome = Outcome()
        if claim.decision == "refuse_host":  # first the host, which the record names: the record goes with the block
            held = await self._records.held(media_id)
            host = "" if held is None else held.host
            if host:
                note = f"{claim.note} ({media_id})" if claim.note else media_id
                order = Order([host], who=who, note=note[:MAX_NOTE])
                outcome = await self._operations.carry_out("block_host", order)
        if not outcome.problems:  # without the host nothing is done: the item is reviewed again
            action = "release" if claim.decision == "release" else "refuse"
            order = Order([media_id], who=who, note=claim.note, ground=claim.ground)
            outcome = await self._operations.carry_out(action, order)
        by = Moderator(claim.who, claim.browser)
        if outcome.problems and (found := await self._read(by)) is not None:
            if found.last == media_id:
                found = replace(found, last="", decision="")
            await self._write(by, replace(found.counting(claim.decision, claim.note, -1), lost=media_id))

    async def _read(self, by: Moderator) -> Round | None:
        raw = await self._redis.execute("GET", _key(by))
        return None if raw is None else ROUND.read_or_skip(raw, _key(by))

    async def _write(self, by: Moderator, found: Round) -> None:
        await self._redis.execute("SET", _key(by), ROUND.write(found), "EX", _ROUND_S)


def _key(by: Moderator) -> str:
    return f"{_ROUND}{by.browser}"
