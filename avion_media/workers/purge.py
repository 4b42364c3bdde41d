"""``media_purge_queue``: purge deleted media from the CDN. Off unless ``CDN__PURGE_URLS`` is set.

It is a queue of its own, so that an unavailable CDN delays no deletion, and purges are retried until they succeed.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlsplit

import httpx
import trio

from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.ids import parse_any_id
from avion_media.common.keys import credentials_path, origin_paths
from avion_media.common.media import in_all_formats, parse_size_names
from avion_media.common.tasks import EnsureLease, Task, TaskHandler, id_of
from avion_media.common.telemetry import get_logger, instruments
from avion_media.items.item import PURGED_SIZES, Items
from avion_media.items.settings import CdnConfig

_TIMEOUT_S = 5.0  # of one request; it is repeated until it succeeds
_NOT_CACHED = frozenset({404, 410, 412})  # statuses of caches that did not have the object
_log = get_logger()


class PurgeMedia(TaskHandler):
    """See `TaskHandler`. Repeating a purge is harmless."""

    def __init__(self, items: Items, config: CdnConfig) -> None:
        self._items = items
        self._config = config
        self._telemetry = items.telemetry
        self._configured = in_all_formats(size.name for size in items.sizes)

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        """Purge every path of the media item. Raises `Unavailable` if one request failed."""
        any_id = id_of(task, parse_any_id)
        named = parse_size_names(task.fields.get(PURGED_SIZES, ""))
        sizes = dict.fromkeys((*self._configured, *named))
        async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as http:
            files = [f"/media/{any_id}", credentials_path(any_id), *origin_paths(any_id, sizes).values()]
            await self._purge_all(http, files)
            if not named:  # last, so that an unavailable store delays no other path
                found = await self._items.published(any_id)
                more = [] if found is None else [size for size in found.facts.thumbnails if size not in sizes]
                await self._purge_all(http, origin_paths(any_id, more).values())

    async def _purge_all(self, http: httpx.AsyncClient, paths: Iterable[str]) -> None:
        paths = tuple(paths)
        for target in self._config.purge_urls:
            for path in paths:
                await self._purge(http, target, path)

    async def _purge(self, http: httpx.AsyncClient, target: str, path: str) -> None:
        log = _log.bind(cache=urlsplit(target).netloc.rpartition("@")[2], object=path)  # the URL may contain a token
        try:
            with trio.fail_after(_TIMEOUT_S):  # httpx bounds each of its steps, not their sum
                response = await http.request(self._config.purge_method, purge_url(target, path))
        except (httpx.HTTPError, trio.TooSlowError) as error:
            self._telemetry.count(instruments.PURGES, outcome="unreachable")
            log.warning("purge.failed", error=repr(error))
            raise Unavailable(Dependency.CDN, repr(error)) from error
        refused = response.status_code >= 400 and response.status_code not in _NOT_CACHED
        self._telemetry.count(instruments.PURGES, outcome="refused" if refused else "ok")
        if refused:
            log.warning("purge.failed", status=response.status_code)
            raise Unavailable(Dependency.CDN, f"it answered {response.status_code}")


def purge_url(target: str, path: str) -> str:
    """Return the URL for a path: ``{path}`` of a template is replaced (percent-encoded in a query), or the path is
    appended."""
    if "{path}" not in target:
        return target.rstrip("/") + path
    before, _, after = target.partition("{path}")
    shown = quote(path, safe="") if "?" in before else path.removeprefix("/") if before.endswith("/") else path
    return before + shown + after
