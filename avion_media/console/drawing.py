"""Data to HTML: the sections of the page, each on its own, so that a live page can replace those that changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jinja2
import trio

from avion_media.console.overview import Overview
from avion_media.domain.errors import MediaError

SECTIONS: Final = ("status", "queues", "letters", "media", "tree", "limits")
_READ_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Viewer:
    """For whom a page is drawn. ``origin`` is where this browser finds media; empty when it cannot."""

    form_token: str
    origin: str
    may_kill: bool
    may_upload: bool
    may_log_out: bool


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("avion_media.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = _bytes
    return environment


def draw(template: str, viewer: Viewer, **values: Any) -> str:
    """One template."""
    return _templates().get_template(template).render(viewer=viewer, **values)


async def draw_section(name: str, overview: Overview, viewer: Viewer) -> str:
    """One section, or one sentence that says why it cannot be shown."""
    try:
        with trio.fail_after(_READ_S):
            values = await _READERS[name](overview)
    except MediaError as error:
        return draw("unavailable.html", viewer, why=str(error))
    except trio.TooSlowError:
        return draw("unavailable.html", viewer, why=f"no answer within {_READ_S:g} s")
    return draw(f"{name}.html", viewer, **values)


async def draw_sections(overview: Overview, viewer: Viewer) -> dict[str, str]:
    """All of them, in the order of the page."""
    return {name: await draw_section(name, overview, viewer) for name in SECTIONS}


async def _status(overview: Overview) -> dict[str, Any]:
    return {"status": overview.status()}


async def _limits(overview: Overview) -> dict[str, Any]:
    return {"limits": overview.limits()}


async def _tree(overview: Overview) -> dict[str, Any]:
    return {"nodes": overview.tree()}


async def _queues(overview: Overview) -> dict[str, Any]:
    return {"queues": await overview.queues()}


async def _letters(overview: Overview) -> dict[str, Any]:
    return {"letters": await overview.letters()}


async def _media(overview: Overview) -> dict[str, Any]:
    return {"media": await overview.media()}


_READERS: Final[dict[str, Callable[[Overview], Awaitable[dict[str, Any]]]]] = {
    "status": _status,
    "tree": _tree,
    "queues": _queues,
    "letters": _letters,
    "media": _media,
    "limits": _limits,
}


def _bytes(size: float) -> str:
    """A size for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")
