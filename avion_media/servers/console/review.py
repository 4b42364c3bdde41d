"""The review page: one held media item after the other, and what a moderator needs to decide about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from starlette.datastructures import QueryParams

from avion_media.common.clock import now_s
from avion_media.common.ids import parse_any_id
from avion_media.common.records import UnreadableRecord
from avion_media.items.moderation import MAX_NOTE, Block, Ended, Ground, HashType, Moderation, Notice
from avion_media.items.moderation.desk import Claim, Moderator
from avion_media.items.moderation.evidence import has_preview
from avion_media.items.moderation.records import Held
from avion_media.items.settings import ModerationConfig
from avion_media.operations.review import REASONS, Review, Turn
from avion_media.servers.console.sessions import chosen
from avion_media.servers.console.wording import GROUNDS
from trio_redis import run_all

MANY: Final = 1000
"""Media of an owner or host that are counted."""
_NEARLY_THE_SAME: Final = 10
_GROUNDS_OF: Final = {"rules": Ground.TERMS, "other": Ground.ILLEGAL}
"""The grounds that follow from a reason (see `REASONS`), if the moderator chooses none."""
_SAID: Final = {"release": "Released", "refuse": "Blocked", "refuse_host": "Blocked with its host:"}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known besides a held media item. ``media`` and ``blocked`` count what its owner or host has, to `MANY`.

    ``same`` are public media with the same file, ``same_held`` held ones; ``same_block`` is a block of that file.
    ``earlier`` are its blocks that were lifted. ``entry_block`` is the block that added the entry.
    """

    media: int = 0
    blocked: int = 0
    same: Sequence[str] = ()
    earlier: Sequence[Ended] = ()
    entry_block: Block | None = None
    same_block: Block | None = None
    same_held: Sequence[str] = ()
    is_host_blocked: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """One item, and its evidence: bytes by name. ``entry_picture``: the media item whose picture shows the entry, empty
    if there is none. ``kept_until``: the end of the evidence if it is blocked now. ``notice``: about it."""

    held: Held
    files: Mapping[str, int]
    entry_picture: str
    kept_until: float
    notice: Notice | None = None
    known: Known = Known()

    @property
    def size_bytes(self) -> int:
        """The bytes of its evidence."""
        return sum(self.files.values())

    @property
    def source(self) -> str:
        """The owner or host, as `Block.source`."""
        return self.held.source

    @property
    def has_preview(self) -> bool:
        """Whether there is a picture of it."""
        return has_preview(self.files)

    @property
    def owner(self) -> str:
        """The owner of an upload, empty if it has none."""
        return self.held.owner

    @property
    def is_nearly_the_same(self) -> bool:
        """Whether the difference is so small that it is most likely the same picture."""
        return self.held.entry is not None and self.held.entry.distance <= _NEARLY_THE_SAME


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """The page: the items that are claimed with their claims, the first one to be decided, and how far the round is."""

    items: Sequence[tuple[Judged, Claim]]
    turn: Turn

    @property
    def total(self) -> int:
        """How many items the round has, with those that were decided."""
        return self.turn.round.decided + self.turn.left

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return now_s() - self.turn.round.began

    @property
    def needed_s(self) -> float:
        """Seconds that the rest will take, at the pace so far; 0 before the first decision."""
        decided = self.turn.round.decided
        return self.elapsed_s / decided * self.turn.left if decided else 0.0

    @property
    def said(self) -> str:
        """What was decided about the last item."""
        return _SAID.get(self.turn.round.decision, "")


async def read_review(
    review: Review, moderation: Moderation, config: ModerationConfig, by: Moderator
) -> ReviewPage | None:
    """Return the page of a moderator; None if no round has begun. Claims what it shows. Raises `Unavailable`."""
    turn = await review.turn(by)
    if turn is None:
        return None
    items = []
    for held, claim in turn.claimed:
        judged = await read_judged(moderation, config, held)
        items.append((replace(judged, known=await _read_known(moderation, judged, turn.waiting)), claim))
    return ReviewPage(items, turn)


async def _read_known(moderation: Moderation, judged: Judged, waiting: Sequence[Held]) -> Known:
    held, items = judged.held, moderation.items

    async def media() -> int:
        if judged.owner:
            return len(await anext(items.owners.media(judged.owner, page_size=MANY), []))
        return len(await anext(items.hosts.copies(held.host, page_size=MANY), [])) if held.host else 0

    async def blocked() -> int:
        return len(await moderation.records.blocked_of(judged.source)) if judged.source else 0

    async def same() -> list[str]:
        found = await items.copies.candidates([held.sha256], held.size_bytes) if held.sha256 else []
        return [str(each.any_id) for each in found if each.sha256 and str(each.any_id) != held.media_id]

    async def block_of(media_id: str) -> Block | None:
        with suppress(UnreadableRecord):
            return await moderation.records.block(media_id) if media_id else None
        return None

    async def earlier() -> Sequence[Ended]:
        block = await block_of(held.media_id)
        return () if block is None else block.ended()

    async def entry_block() -> Block | None:
        return await block_of("" if held.entry is None else held.entry.media_id)

    async def same_block() -> Block | None:
        match = moderation.lists.exact({HashType.SHA256: bytes.fromhex(held.sha256)}) if held.sha256 else None
        return None if match is None else await block_of(match.media_id)

    same_held = {each.media_id for each in waiting if held.sha256 and each.sha256 == held.sha256} - {held.media_id}
    is_host_blocked = bool(held.host) and moderation.hosts.is_blocked(held.host)
    found = Known(*await run_all([media, blocked, same, earlier, entry_block, same_block]))
    return replace(found, same_held=sorted(same_held), is_host_blocked=is_host_blocked)


async def read_judged(moderation: Moderation, config: ModerationConfig, held: Held) -> Judged:
    """Return the facts about a held media item. Raises `Unavailable`."""
    files = await moderation.evidence.files(parse_any_id(held.media_id))
    picture = "" if held.entry is None else held.entry.media_id
    if picture and not has_preview(await moderation.evidence.files(parse_any_id(picture))):
        picture = ""
    kept_until = now_s() + config.evidence_keep
    notice = None
    with suppress(UnreadableRecord):
        notice = await moderation.records.notice(held.media_id)
    return Judged(held, files, picture, kept_until, notice)


async def act(review: Review, by: Moderator, form: QueryParams) -> bool:
    """Do what a form of the page asks for. Return whether the round goes on. Raises `Unavailable`."""
    media_id, seen = form.get("item") or "", form.get("lost") or ""
    wanted, _, reason = (form.get("decision") or "").partition(":")
    if wanted == "start":
        await review.start(by)
    elif wanted == "undo":
        await review.take_back(by)
    elif wanted == "skip" and media_id:
        await review.skip(by, media_id, seen)
    elif wanted in _SAID and media_id:
        note = ". ".join(filter(None, (REASONS.get(reason, ""), (form.get("note") or "").strip())))
        ground = chosen(form, "ground", GROUNDS) or _GROUNDS_OF.get(reason, Ground.UNSPECIFIED)
        await review.decide(by, media_id, wanted, note[:MAX_NOTE], seen, ground=Ground(ground))
    else:
        await review.stop(by)
        return False
    return True
