"""Recent media items: those in progress, and those whose outcome was published as an event. This needs no index.

Those of one owner or host come from its index in the bucket.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from avion_media.backends.queue.task_scan import FoundTask, find_tasks
from avion_media.backends.redis import Redis, as_text
from avion_media.common.formats import Family
from avion_media.common.ids import AnyId, MediaId, RemoteId, id_or_none
from avion_media.common.keys import origin_paths
from avion_media.common.media import is_owner
from avion_media.common.tasks import EVENTS_STREAM, PROCESSING_QUEUE
from avion_media.items.hosts import RemoteCopy
from avion_media.items.item import Items
from avion_media.items.owners import OwnedMedium
from avion_media.operations.dead_letters import is_entry_id
from avion_media.servers.console.sessions import chosen
from avion_media.servers.console.wording import address, as_host, format_of

PAGE_TILES: Final = 24
MAX_EXAMINED: Final = 2000
"""Maximum number of events that are read for one page."""
_CHUNK: Final = 250
STATES: Final = {
    "processing": "Processing",
    "ready": "Ready",
    "failed": "Failed",
    "deleted": "Deleted",
    "held": "Held",
    "blocked": "Blocked",
}
SOURCES: Final = {"upload": "Uploads", "remote": "Remote copies"}
KINDS: Final = {str(family): str(family).capitalize() for family in Family}
LARGER: Final = {"1": "1 MiB", "10": "10 MiB", "100": "100 MiB"}
"""Minimum sizes in MiB."""
_DAY: Final = timedelta(days=1)
_OWNER, _HOST = "owner:", "host:"


@dataclass(frozen=True, slots=True)
class Tile:
    """A media item, and what happened to it last. ``at`` is in Unix seconds; 0 if it is not known."""

    media_id: str
    state: str
    reason: str
    at: float
    thumbnail: str = ""  # path on the origin; empty when there is none
    remote_url: str = ""
    facts: str = ""
    owner: str = ""
    kind: str = ""  # image, video or audio; empty if it is not known
    size_bytes: int = 0  # 0 if it is not known
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MediaFilter:
    """A filter for media items, and how they are shown. A media item matches if it meets every condition that is set.

    ``since`` and ``until`` are days in ISO 8601, UTC, both included. A media item whose type or size is not known does
    not match a condition of it.
    """

    text: str = ""
    state: str = ""
    source: str = ""
    kind: str = ""
    larger: str = ""
    owned_by: str = ""
    since: str = ""
    until: str = ""
    view: str = ""  # of the list: ``list`` for rows instead of tiles

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> MediaFilter:
        """Read the filter from a URL. Invalid values count as absent."""
        owner = query.get("owner", "").strip()
        return cls(
            query.get("q", "").strip()[:2048],
            chosen(query, "state", STATES),
            chosen(query, "source", SOURCES),
            chosen(query, "kind", KINDS),
            chosen(query, "larger", LARGER),
            owner if is_owner(owner) else "",
            _day(query.get("since", "")),
            _day(query.get("until", "")),
            chosen(query, "view", ("list",)),
        )

    @property
    def is_open(self) -> bool:
        """Whether every media item matches."""
        return self == MediaFilter(view=self.view)

    def url(self, **more: str) -> str:
        """Return the address of the list with this filter."""
        named = {"q": self.text, "state": self.state, "source": self.source, "kind": self.kind, "larger": self.larger}
        named |= {"owner": self.owned_by, "since": self.since, "until": self.until, "view": self.view, **more}
        return address("/console/media", named)

    @property
    def owner(self) -> str:
        """The owner, also if the text is ``owner:NAME``; empty for all."""
        name = self.text.removeprefix(_OWNER).strip()
        return name if self.text.startswith(_OWNER) and is_owner(name) else self.owned_by

    @property
    def host(self) -> str:
        """The host of the remote copies, if the text is ``host:NAME``; empty for all."""
        return as_host(self.text.removeprefix(_HOST).strip()) if self.text.startswith(_HOST) else ""

    @property
    def begins(self) -> float:
        """The first moment that matches (Unix seconds); 0 without a limit."""
        return datetime.fromisoformat(f"{self.since}T00:00Z").timestamp() if self.since else 0.0

    @property
    def ends(self) -> float:
        """The first moment that does not match any more (Unix seconds); infinite without a limit."""
        return (datetime.fromisoformat(f"{self.until}T00:00Z") + _DAY).timestamp() if self.until else math.inf

    @property
    def is_no_name(self) -> bool:
        """Whether the text is ``owner:`` or ``host:`` with what is neither."""
        return self.text.startswith((_OWNER, _HOST)) and not (self.host if self.text.startswith(_HOST) else self.owner)

    def lets_through(self, tile: Tile) -> bool:
        """Return whether this media item matches."""
        if self.state and tile.state != self.state:
            return False
        if self.source and (len(tile.media_id) == 64) != (self.source == "remote"):
            return False
        if self.kind and tile.kind != self.kind:
            return False
        if self.larger and tile.size_bytes < int(self.larger) << 20:
            return False
        if not self.begins <= tile.at < self.ends:
            return False
        searched = f"{tile.media_id}\n{tile.reason}\n{tile.remote_url}\n{tile.facts}".lower()
        return self.text.startswith((_OWNER, _HOST)) or self.text.lower() in searched


@dataclass(frozen=True, slots=True)
class MediaPage:
    """One page. ``older`` is the cursor of the next page; empty at the end."""

    tiles: tuple[Tile, ...]
    older: str
    newest: str  # the cursor of the newest event that was read
    examined: int


async def read_unfinished(redis: Redis, wanted: MediaFilter) -> MediaPage:
    """Return a page of uploads whose task waits or is in progress, in any order. Raises `Unavailable`."""

    def tile(task: FoundTask) -> Tile | None:
        any_id = id_or_none(task.entry.task.subject)
        if any_id is None:
            return None
        return Tile(str(any_id), "processing", "", task.entry.first_seen, kind=_kind_of(any_id))

    def is_wanted(task: FoundTask) -> bool:
        drawn = tile(task)
        return drawn is not None and wanted.lets_through(drawn)

    tasks = await find_tasks(redis, PROCESSING_QUEUE, is_wanted, PAGE_TILES)
    drawn = [each for each in map(tile, tasks) if each is not None]
    return MediaPage(tuple(drawn), "", "", len(tasks))


async def read_media(redis: Redis, wanted: MediaFilter, smallest: str, before: str = "") -> MediaPage:
    """Return the media items of the last events, newest first. The first page begins with items in progress.

    ``smallest`` is the thumbnail size to show; empty for none. Raises `Unavailable`.
    """
    found: dict[str, Tile] = {}
    if not before:
        rows = await redis.execute("XREVRANGE", PROCESSING_QUEUE, "+", "-", "COUNT", PAGE_TILES)
        for entry_id, flat in rows:
            any_id = id_or_none(as_text(flat).get("media_id", ""))
            if any_id is None:
                continue
            tile = Tile(str(any_id), "processing", "", _seconds(entry_id), kind=_kind_of(any_id))
            if wanted.lets_through(tile):
                found.setdefault(tile.media_id, tile)
    examined, older, newest = 0, "", ""
    start = f"({before}" if is_entry_id(before) else "+" if wanted.ends == math.inf else f"({wanted.ends * 1000:.0f}"
    while len(found) < PAGE_TILES and examined < MAX_EXAMINED:
        rows = await redis.execute("XREVRANGE", EVENTS_STREAM, start, "-", "COUNT", _CHUNK)
        older = ""
        for entry_id, flat in rows:
            if len(found) >= PAGE_TILES:
                break
            examined, older = examined + 1, entry_id.decode()
            newest = newest or older
            if _seconds(entry_id) < wanted.begins:
                return MediaPage(tuple(found.values()), "", newest, examined)
            tile_of_event = _tile(entry_id, as_text(flat), smallest)
            if tile_of_event is not None and wanted.lets_through(tile_of_event):
                found.setdefault(tile_of_event.media_id, tile_of_event)
        if len(rows) < _CHUNK and (not rows or older == rows[-1][0].decode()):
            older = ""
            break
        start = f"({older}"
    return MediaPage(tuple(found.values())[:PAGE_TILES], older, newest, examined)


async def read_indexed(items: Items, wanted: MediaFilter, smallest: str, after: str = "") -> MediaPage:
    """Return a page of an owner's public media items, or of the copies of a host, after an id, in the order of their
    ids, which for uploads is their age. Raises `Unavailable`."""
    behind = id_or_none(after)
    tiles: list[Tile] = []
    examined, last = 0, ""
    async for page in (
        items.hosts.copies(wanted.host, behind if isinstance(behind, RemoteId) else None, page_size=_CHUNK)
        if wanted.host
        else items.owners.media(wanted.owner, behind if isinstance(behind, MediaId) else None, page_size=_CHUNK)
    ):
        for each in page:
            if len(tiles) == PAGE_TILES or examined == MAX_EXAMINED:
                return MediaPage(tuple(tiles), last, "", examined)
            examined, last = examined + 1, str(each.media_id)
            tile = _indexed(each, smallest)
            if wanted.lets_through(tile):
                tiles.append(tile)
    return MediaPage(tuple(tiles), "", "", examined)


def _indexed(entry: OwnedMedium | RemoteCopy, smallest: str) -> Tile:
    any_id = entry.media_id
    return Tile(
        str(any_id),
        "ready",
        "",
        any_id.created.timestamp() if isinstance(any_id, MediaId) else 0.0,
        _thumbnail(any_id, smallest),
        facts=f"remote {entry.kind.replace('_', ' ')}" if isinstance(entry, RemoteCopy) else format_of(str(any_id)),
        kind=_kind_of(any_id),
        size_bytes=entry.size_bytes,
    )


async def count_newer(redis: Redis, than: str) -> int:
    """Return how many events are newer than the cursor, at most a page. Raises `Unavailable`."""
    start = f"({than}" if is_entry_id(than) else "-"
    return len(await redis.execute("XRANGE", EVENTS_STREAM, start, "+", "COUNT", PAGE_TILES))


def _tile(entry_id: bytes, fields: Mapping[str, str], smallest: str) -> Tile | None:
    try:
        event = json.loads(fields.get("event", ""))
        any_id, ending = id_or_none(str(event["media_id"])), str(event["type"]).rpartition(".")[2]
    except (ValueError, KeyError, TypeError):
        return None
    if ending not in STATES or any_id is None:
        return None
    return Tile(
        str(any_id),
        ending,
        str(event.get("reason", "")),
        _seconds(entry_id),
        _thumbnail(any_id, smallest) if ending == "ready" else "",
        str(event.get("remote_url", "")),
        _facts(any_id, event),
        str(event.get("owner", "")),
        str(event.get("content_type", "")).partition("/")[0] or _kind_of(any_id),
        int(event.get("size") or 0),
        float(event.get("duration") or 0),
    )


def _thumbnail(any_id: AnyId, smallest: str) -> str:
    """Return the path of the smallest thumbnail; empty for a private media item, which only bearers of a token see."""
    return "" if any_id.is_private or not smallest else origin_paths(any_id, [smallest])[smallest]


def _facts(any_id: AnyId, event: Mapping[str, Any]) -> str:
    """Return the format, and the size in pixels if the event has it."""
    has_size = event.get("width") and event.get("height")
    return (format_of(str(any_id)) or "remote") + (f" {event['width']} × {event['height']}" if has_size else "")


def _kind_of(any_id: AnyId) -> str:
    """Return the declared kind of an upload; empty for a remote media item, which declares none."""
    return str(any_id.format.family) if isinstance(any_id, MediaId) else ""


def _day(text: str) -> str:
    """Return a day in ISO 8601; empty if the text is none."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


def _seconds(entry_id: bytes) -> float:
    return int(entry_id.partition(b"-")[0]) / 1000
