"""The moderation page: media that wait for a moderator, blocked media, block lists, blocked hosts, and a search."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from avion_media.common.records import UnreadableRecord
from avion_media.items.moderation import (
    EXACT,
    OWN,
    Block,
    BlockedHost,
    Entry,
    HashType,
    Match,
    Moderation,
    Notice,
)
from avion_media.items.moderation.records import Held, moment
from avion_media.items.settings import ModerationConfig
from avion_media.operations.evidence import listed
from avion_media.operations.inspection import id_meant
from avion_media.servers.console.media_list import MediaFilter
from avion_media.servers.console.review import Judged, read_judged
from avion_media.servers.console.wording import address, as_host
from guarded_fetch import InvalidUrl, parse_remote_url
from trio_redis import run_all

T = TypeVar("T")
PAGE_ROWS: Final = 15
_MAX_FIELD: Final = 260  # a host has at most 253 characters
MAX_NOTICES: Final = 100
_LAST: Final = "~"  # sorts behind all times
_AT_ONCE: Final = 8
_HASH: Final = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")
_MEANINGS: Final = {"hold": "Held for review", "refuse": "Refused", "ignore": "Ignored"}
PARTS: Final = {
    "review": "Review",
    "lists": "Block lists",
    "blocked": "Blocked",
    "hosts": "Hosts",
    "evidence": "Evidence",
}


@dataclass(frozen=True, slots=True)
class ModerationQuery:
    """What the page shows: one of its parts, the place in it, and perhaps a hash or an id to look up."""

    part: str = "review"
    text: str = ""
    after: str = ""
    source: str = ""  # of blocked media: only those of this owner or host, as `Block.source`

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> ModerationQuery:
        """Read a URL. Invalid values count as absent."""
        part = query.get("part", "")
        text, after, source = (query.get(name, "").strip()[:_MAX_FIELD] for name in ("q", "after", "source"))
        return cls(part if part in PARTS else "review", text, after, source)

    def url(self, **more: str) -> str:
        """Return the address of this part; ``more`` are further fields."""
        named = {"part": "" if self.part == "review" else self.part, "source": self.source, "after": self.after, **more}
        return address("/console/moderation", named)


@dataclass(frozen=True, slots=True)
class ListedHashes:
    """One block list: how many entries of each type, what a match means, and how many there were in a month."""

    name: str
    counts: Mapping[str, int]
    exact: str
    alike: str
    matches: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is about a hash, an id, an owner or a host that somebody looked for. ``media_id`` is the id, if it is
    one. ``blocked``: how many media of an owner or host are blocked, by source (see `Block.source`). ``waiting``: those
    of them that wait for a moderator. ``hosts``: the blocks that cover the host. ``cause``: that of its last block."""

    text: str
    media_id: str = ""
    problem: str = ""
    blocked: Mapping[str, int] = field(default_factory=dict)
    matches: Sequence[Match] = ()
    block: Block | None = None
    held: Held | None = None
    waiting: Sequence[Held] = ()
    hosts: Sequence[BlockedHost] = ()
    cause: str = ""


@dataclass(frozen=True, slots=True)
class ModerationPage:
    """One part. ``evidence`` is as `operations.evidence.listed` returns it. ``next`` is the cursor behind it, empty at
    the end; ``total`` is how many there are, if known."""

    waiting: Sequence[Judged] = ()
    lists: Sequence[ListedHashes] = ()
    own: Sequence[Entry] = ()
    blocks: Sequence[Block] = ()
    hosts: Sequence[BlockedHost] = ()
    notices: Sequence[Notice] = ()
    evidence: Sequence[Mapping[str, Any]] = ()
    total: int = 0
    next: str = ""


async def read_moderation(moderation: Moderation, config: ModerationConfig, wanted: ModerationQuery) -> ModerationPage:
    """Return the requested part. Raises `Unavailable`."""
    if wanted.part == "lists":
        return await _read_lists(moderation, config, wanted.after)
    if wanted.part == "hosts":
        hosts, behind = await moderation.hosts.list(wanted.after, PAGE_ROWS)
        return ModerationPage(hosts=hosts, next=behind)
    if wanted.part == "evidence":
        evidence = await listed(moderation.evidence, wanted.after, PAGE_ROWS)
        behind = evidence[-1]["media_id"] if len(evidence) == PAGE_ROWS else ""
        return ModerationPage(evidence=evidence, next=behind)
    if wanted.part == "blocked":
        if wanted.source:
            return await _read_blocks_of(moderation, wanted)
        blocks = await moderation.records.blocks(wanted.after, PAGE_ROWS)
        return ModerationPage(blocks=blocks, next=blocks[-1].media_id if len(blocks) == PAGE_ROWS else "")
    return await _read_waiting(moderation, config, wanted.after)


async def _read_blocks_of(moderation: Moderation, wanted: ModerationQuery) -> ModerationPage:
    ids = await moderation.records.blocked_of(wanted.source)
    page, behind = _page(ids, str, wanted.after)
    blocks = []
    for media_id in page:
        with suppress(UnreadableRecord):
            block = await moderation.records.block(media_id)
            blocks += [block] if block is not None and block.in_force else []
    return ModerationPage(blocks=blocks, total=len(ids), next=behind)


async def look_up(moderation: Moderation, text: str) -> Answer:
    """Return the `Answer` about a hash, a media id or its URL, an owner or a host. Raises `Unavailable`."""
    any_id, digest, host = id_meant(text, moderation.items.remote_ids), text.lower(), _host_in(text)
    hosts = await moderation.hosts.covering(host) if host else ()
    matches = await _matches(moderation, bytes.fromhex(digest)) if _HASH.fullmatch(digest) else []
    if any_id is None:
        sources = () if matches else _sources(text)
        blocked = {each: len(await moderation.records.blocked_of(each)) for each in sources}
        everything = await moderation.reviews.waiting() if sources else []
        waiting = [each for each in everything if each.source in sources]
        known = {each: count for each, count in blocked.items() if count}
        return Answer(text, blocked=known, matches=matches, waiting=waiting, hosts=hosts)
    try:
        block, held = await moderation.records.block(str(any_id)), await moderation.records.held(str(any_id))
    except UnreadableRecord as error:
        return Answer(text, str(any_id), str(error), matches=matches)
    in_force = block if block is not None and block.in_force else None
    cause = "" if block is None else block.cause
    return Answer(text, str(any_id), matches=matches, block=in_force, held=held, hosts=hosts, cause=cause)


def _host_in(text: str) -> str:
    """Return the host that a text is, or names by ``host:`` or a URL, in normal form; empty if there is none."""
    if named := MediaFilter(text).host:
        return named
    with suppress(InvalidUrl):
        return parse_remote_url(text).host
    return as_host(text)


def _sources(text: str) -> Sequence[str]:
    """Return what a name can be, as `Block.source`: an owner or a host, or what ``owner:`` or ``host:`` says."""
    named = MediaFilter(text)
    if named.owner:
        return [f"owner/{named.owner}"]
    return [f"host/{named.host}"] if named.host else [f"owner/{text}", f"host/{text.lower()}"]


async def _matches(moderation: Moderation, digest: bytes) -> list[Match]:
    """Return the matches of a hash. It is compared as every type of its length, because it does not name its type."""
    await moderation.lists.refresh()
    kinds = [kind for kind in HashType if kind.size_bytes == len(digest)]
    exact = moderation.lists.exact({kind: digest for kind in kinds if kind in EXACT})
    alike = await moderation.lists.alike(digest) if HashType.PDQ in kinds else []
    return [*([exact] if exact is not None else []), *alike]


async def _read_waiting(moderation: Moderation, config: ModerationConfig, after: str) -> ModerationPage:
    waiting, notices = await moderation.reviews.waiting(), await moderation.reviews.notices()

    def place(held: Held) -> str:
        notice = notices.get(held.media_id)
        return f"{_LAST if notice is None else moment(notice.due)}/{held.at}/{held.media_id}"

    page, behind = _page(waiting, place, after)
    judged = await run_all([partial(read_judged, moderation, config, held) for held in page], _AT_ONCE)
    others = set() if after else notices.keys() - {each.media_id for each in waiting}
    shown = [each for media_id, each in notices.items() if media_id in others]
    return ModerationPage(waiting=judged, notices=shown[:MAX_NOTICES], total=len(waiting), next=behind)


async def _read_lists(moderation: Moderation, config: ModerationConfig, after: str) -> ModerationPage:
    await moderation.lists.refresh()
    own, matches = moderation.lists.own_entries(), await moderation.matches.last_days()
    page, behind = _page(own, lambda entry: f"{entry.hash.hex()}{entry.media_id}"[:_MAX_FIELD], after)
    lists = [
        ListedHashes(
            name,
            counts,
            "Refused" if any(counts.get(kind) for kind in EXACT) else "",
            _MEANINGS[config.likeness.of(name)] if counts.get(HashType.PDQ) else "",
            matches[name],
        )
        for name, counts in sorted(moderation.lists.counts().items(), key=lambda item: (item[0] != OWN, item[0]))
    ]
    return ModerationPage(lists=lists, own=page, total=len(own), next=behind)


def _page(rows: Iterable[T], cursor: Callable[[T], str], after: str) -> tuple[list[T], str]:
    """Return the page after a cursor, and the cursor behind it, which is empty at the end."""
    rest = [each for each in rows if cursor(each) > after]
    return rest[:PAGE_ROWS], cursor(rest[PAGE_ROWS - 1]) if len(rest) > PAGE_ROWS else ""
