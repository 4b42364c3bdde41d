"""Turns data into HTML: whole pages, and single regions, so that a live page can replace those that changed.

A live page gets them as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
import trio
from starlette.responses import Response, StreamingResponse

from avion_media.backends.queue import all_jobs
from avion_media.backends.queue.consumers import read_consumers
from avion_media.backends.queue.entries import UNCONFIRMED
from avion_media.backends.queue.history import last_of
from avion_media.backends.redis import Redis
from avion_media.backends.remote import breaker_state
from avion_media.common.concurrency import Shared
from avion_media.common.credentials import Role
from avion_media.common.errors import MediaError, Unavailable
from avion_media.common.settings import format_size
from avion_media.common.tasks import CACHE_QUEUE, CONSUMER_GROUP, QUEUES
from avion_media.items.moderation import MAX_NOTE
from avion_media.items.moderation.lists import MATCH_DAYS, MAX_DISTANCE
from avion_media.operations.dead_letters import Cause, count_newer
from avion_media.operations.operation import Operation, many
from avion_media.process.runtime import Limiter
from avion_media.servers.console import charts, wording
from avion_media.servers.console.health import Facts, Health, Tone, assess, queue_state
from avion_media.servers.console.media_list import KINDS, LARGER, SOURCES, STATES, MediaFilter, read_media
from avion_media.servers.console.media_list import count_newer as count_newer_media
from avion_media.servers.console.moderation import PARTS
from avion_media.servers.console.prometheus import PrometheusCharts
from avion_media.servers.console.questions import ENDS, DeadLetterQuery
from avion_media.servers.console.review import MANY
from avion_media.servers.console.sessions import chosen

ASSETS: Final = {"console.css": "text/css", "console.js": "text/javascript", "icons.svg": "image/svg+xml"}
_NOT_OF_THE_PAGE: Final = ("done", "newest", "page")  # in the query of a live page
_READ_S: Final = 3.0
_INTERVAL_S: Final = 2.0
_KEEP_ALIVE_S: Final = 15.0  # proxies close a silent connection
_MAX_VIEWERS: Final = 16


@dataclass(frozen=True, slots=True)
class Page:
    """One entry of the navigation. ``regions`` are replaced while the page is open."""

    name: str
    icon: str
    regions: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its title."""
        return self.name.replace("-", " ").capitalize()

    @property
    def path(self) -> str:
        """Its address."""
        return "/console" if self.name == "overview" else f"/console/{self.name}"


PAGES: Final = (
    Page("overview", "overview", ("kpis", "attention", "replica-card", "queue-cards", "recent")),
    Page("queues", "queues", ("totals", "jobs", "queues")),
    Page("dead-letters", "dead", ("causes", "fresh-dead-letters")),
    Page("media", "media", ("fresh-media",)),
    Page("system", "system", ("replicas", "process", "tree", "dependencies", "sandbox", "limits")),
    Page("moderation", "shield", ("fresh-held",)),
    Page("audit", "book"),
)
"""The pages, in the order of the navigation."""
FRAME_REGIONS: Final = ("banner", "nav", "replica-menu")
"""Regions that every page has."""
_REGIONS: Final = {page.name: (*FRAME_REGIONS, *page.regions) for page in PAGES}


@dataclass(frozen=True, slots=True)
class Viewer:
    """The viewer of a page. ``origin`` is the address of media for this browser; empty if there is none."""

    form_token: str
    origin: str
    name: str
    role: Role
    may_upload: bool
    may_log_out: bool


@dataclass(frozen=True, slots=True)
class About:
    """Which process this is."""

    version: str
    replica: str
    environment: str
    process: str


@dataclass(frozen=True, slots=True)
class View:
    """One page for one viewer at one moment."""

    page: str
    viewer: Viewer
    about: About
    facts: Facts
    redis: Redis
    smallest: str  # thumbnail size for lists; empty for none
    limits: Mapping[str, Limiter]
    actions: Mapping[str, Operation]
    causes: Shared[tuple[list[Cause], int]]
    prometheus: PrometheusCharts
    query: Mapping[str, str] = field(default_factory=dict)

    def may(self, action: str) -> bool:
        """Return whether the viewer has a right to an action. Pages show only the buttons of these."""
        return action in self.actions and self.viewer.role >= self.actions[action].right

    @property
    def here(self) -> str:
        """The address of the page, without the result of an action: an action leads back to it. Empty for an item."""
        path = next((page.path for page in PAGES if page.name == self.page), "")
        fields = {name: value for name, value in self.query.items() if name not in _NOT_OF_THE_PAGE}
        return wording.address(path, fields) if path else ""

    @property
    def range(self) -> str:
        """The requested range of the charts, if it is offered; empty for the hour."""
        return chosen(self.query, "range", self.prometheus.offered)

    @property
    def health(self) -> Health:
        """How the service is."""
        return assess(self.facts)


@cache
def asset(name: str) -> tuple[bytes, str]:
    """Return a file of ``assets/`` and its version. The version is in its address, because browsers cache it."""
    content = files("avion_media.servers.console").joinpath("assets", name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:8]


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("avion_media.servers.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = "advice as_host as_id clip count dated duration fixed format_of meaning queue_title rate short sized took"
    filters = {name: getattr(wording, name) for name in (*names.split(), "type_of", "when", "with_short_hashes")}
    environment.filters |= {**filters, "size": format_size}
    environment.globals |= {
        "many": many,
        "state_of": queue_state,
        "asset": lambda name: f"/console/assets/{name}?v={asset(name)[1]}",
        "figure": charts.figure,
        "span_of": charts.Span.of,
        "span": charts.Span,
        "meter": charts.meter,
        "stretch": charts.stretch,
        "last_of": last_of,
        "pages": PAGES,
        "queue_names": tuple(QUEUES),
        "max_note": MAX_NOTE,
        "states": STATES,
        "kinds": KINDS,
        "sources": SOURCES,
        "larger": {each: f"At least {size}" for each, size in LARGER.items()},
        "ends": ENDS,
        "grounds": wording.GROUNDS,
        "match_days": MATCH_DAYS,
        "max_distance": MAX_DISTANCE,
        "most": MANY,
        "parts": PARTS,
    }
    return environment


def draw(template: str, **values: Any) -> str:
    """Render one template."""
    return _templates().get_template(template).render(**values)


async def draw_page(template: str, view: View, **values: Any) -> str:
    """Render a whole page, with its regions."""
    regions = {name: await draw_region(name, view) for name in _REGIONS.get(view.page, FRAME_REGIONS)}
    return draw(template, view=view, regions=regions, **values)


async def draw_region(name: str, view: View) -> str:
    """Render one region, or a card that says why it cannot be shown."""
    read = _READERS.get(name)
    try:
        with trio.fail_after(_READ_S):
            values = await read(view) if read is not None else {}
    except MediaError as error:
        return draw("regions/unavailable.html", why=str(error))
    except trio.TooSlowError:
        return draw("regions/unavailable.html", why=f"there was no response within {_READ_S:g} s")
    return draw(f"regions/{name}.html", view=view, **values).strip()


async def _causes(view: View) -> dict[str, Any]:
    causes, examined = await view.causes.get()
    return {"causes": causes, "examined": examined}


async def _kpis(view: View) -> dict[str, Any]:
    return {"figures": await view.prometheus.read(view.range) if view.range else None}


async def _fresh_dead_letters(view: View) -> dict[str, Any]:
    wanted, newest = DeadLetterQuery.from_query(view.query), view.query.get("newest", "")
    new = await count_newer(view.redis, wanted.selection(), newest) if newest else 0
    return {"new": new, "href": wanted.url()}


async def _fresh_media(view: View) -> dict[str, Any]:
    newest = view.query.get("newest", "")
    wanted = MediaFilter.from_query(view.query)
    return {"new": await count_newer_media(view.redis, newest) if newest else 0, "href": wanted.url()}


async def _fresh_held(view: View) -> dict[str, Any]:
    """Count media that were held after the page was drawn. The query has the time of the newest on the page."""
    newest = view.query.get("newest")
    return {"new": 0 if newest is None else sum(each > newest for each in view.facts.held)}


async def _jobs(view: View) -> dict[str, Any]:
    return {"jobs": await all_jobs(view.redis)}


async def _queues(view: View) -> dict[str, Any]:
    """Add the consumers of each queue, and why the server fails whose files a late queue waits for.

    While Redis does not respond, there are neither, and the old figures are shown.
    """
    facts = view.facts
    found: dict[str, str] = {}
    consumers: dict[str, list[dict[str, Any]]] = {}
    with suppress(Unavailable):
        for name, sample in () if facts.is_stale else facts.queues.items():
            consumers[name] = await _consumers(view, name)
            server = sample.stats.oldest_tenant
            if name != CACHE_QUEUE or not server or queue_state(facts, name).tone < Tone.WARN:
                continue
            trouble = await breaker_state(view.redis, server)
            if trouble is not None and trouble.paused_until > facts.now:
                found[name] = (
                    f"{server} failed {many(trouble.failures, 'time')} in a row ({trouble.cause}),"
                    f" and is tried again {wording.ago(trouble.paused_until, facts.now)}."
                )
    return {"servers": found, "consumers": consumers}


async def _consumers(view: View, queue: str) -> list[dict[str, Any]]:
    """Return the processes that read a queue, those with most tasks first: their replica, tasks and last command."""
    known = {each.process: each for each in view.facts.replicas}
    rows = await read_consumers(view.redis, queue, CONSUMER_GROUP)
    found = [
        {"name": name, "replica": known.get(name), "tasks": row[b"pending"], "at": view.facts.now - row[b"idle"] / 1000}
        for row in rows
        if (name := row[b"name"].decode(errors="replace")) != UNCONFIRMED
    ]
    return sorted(found, key=lambda each: -each["tasks"])


async def _recent(view: View) -> dict[str, Any]:
    return {"media": await read_media(view.redis, MediaFilter(), view.smallest)}


_READERS: Final[dict[str, Callable[[View], Awaitable[dict[str, Any]]]]] = {
    "causes": _causes,
    "kpis": _kpis,
    "fresh-held": _fresh_held,
    "fresh-dead-letters": _fresh_dead_letters,
    "jobs": _jobs,
    "fresh-media": _fresh_media,
    "queues": _queues,
    "recent": _recent,
}


class LivePages:
    """The open streams of one process. Their number is limited."""

    def __init__(self) -> None:
        self._viewers = 0

    def stream(self, look: Callable[[], Awaitable[View]], may_look: Callable[[], Awaitable[object]]) -> Response:
        """Return events for one page, until its browser leaves or its session ends; 503 if too many are open."""
        if self._viewers >= _MAX_VIEWERS:
            return Response("too many live pages\n", 503, headers={"Retry-After": "10"})
        return StreamingResponse(self._events(look, may_look), media_type="text/event-stream")

    async def _events(
        self, look: Callable[[], Awaitable[View]], may_look: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[str]:
        self._viewers += 1
        try:
            shown: dict[str, str] = {}
            sent_at = trio.current_time()
            while await may_look():
                view = await look()
                for name in _REGIONS.get(view.page, FRAME_REGIONS):
                    html = await draw_region(name, view)
                    if shown.get(name) != html:
                        shown[name], sent_at = html, trio.current_time()
                        yield f"event: region\ndata: {json.dumps({'name': name, 'html': html})}\n\n"
                if trio.current_time() - sent_at > _KEEP_ALIVE_S:
                    sent_at = trio.current_time()
                    yield ": still here\n\n"
                await trio.sleep(_INTERVAL_S)
        finally:
            self._viewers -= 1
