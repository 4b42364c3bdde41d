"""The CDNs that can be purged: one row of `_ROWS` for each value of ``CDN__PURGE``, and how requests are sent to them.

==========  ===========================================================  ==============================================
url         {method} {cache}{path}, each path at each cache              2xx or 3xx; 404, 410, 412: it had no copy
cloudflare  POST …/zones/{zone}/purge_cache, a list of URLs              2xx with ``"success": true``
fastly      POST …/purge/{host}{path}, one URL                           2xx
bunny       POST …/purge?url={url}&async=false, one URL                  2xx
template    {method} of the configured URL, with its headers and body    2xx
==========  ===========================================================  ==============================================

Any other answer is a failure. 400 concerns one of the URLs: the request is split until it is found, and only its task
waits. Everything else concerns the account or the CDN (a wrong token, a rate limit, an outage): all purges wait, for
``Retry-After`` if the CDN sends it.

Sources: developers.cloudflare.com/api (Purge Cached Content; limits in Purge cache), www.fastly.com/documentation
(API, Purging), docs.bunny.net (Core API, Purge URL). Seen on 2026-11-30.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import httpx
import trio

from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.settings import PREFIX
from avion_media.common.telemetry import instruments
from avion_media.items.settings import CdnConfig, fill_body
from guarded_fetch import retry_after_s
from trio_telemetry import Telemetry, get_logger

_TIMEOUT_S = 5.0  # of one request; it is repeated until it succeeds
_PAUSE_S = 1.0  # after a failure, if the CDN asks for none
_DENIED_PAUSE_S = 30.0  # after 401 and 403: an operator must change the token
_REFUSED = 400
_DENIED = frozenset({401, 403})
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~]*?)[ \t]*")  # RFC 9110, 5.1 and 5.5
_SHARED_SLOTS = 32  # tasks that share requests
_log = get_logger()


@dataclass(slots=True)
class _Entry:
    """One URL to purge: ``path`` at the origin, ``url`` at the CDN (of `url` the URL of the request)."""

    path: str
    url: str
    origin: str = ""
    ended: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A CDN. ``request`` makes a request of up to ``batch`` entries. ``at_once``: requests that one replica sends at
    the same time. ``not_cached``: statuses besides 2xx that are successes; ``confirms``: whether a response with 2xx is
    one."""

    request: Callable[[CdnConfig, Sequence[_Entry]], httpx.Request]
    batch: int = 1
    at_once: int = 1
    not_cached: frozenset[int] = frozenset()
    confirms: Callable[[httpx.Response], bool] = lambda _response: True


def _ask_cache(config: CdnConfig, entries: Sequence[_Entry]) -> httpx.Request:
    return httpx.Request(config.purge_method, entries[0].url)


def _ask_cloudflare(config: CdnConfig, entries: Sequence[_Entry]) -> httpx.Request:
    files = [{"url": each.url, "headers": {"Origin": each.origin}} if each.origin else each.url for each in entries]
    url = f"https://api.cloudflare.com/client/v4/zones/{config.cloudflare_zone}/purge_cache"
    return httpx.Request("POST", url, headers={"Authorization": f"Bearer {_token(config)}"}, json={"files": files})


def _ask_fastly(config: CdnConfig, entries: Sequence[_Entry]) -> httpx.Request:
    cached_url = entries[0].url.partition("://")[2]
    headers = {"Fastly-Key": _token(config), "Accept": "application/json"}
    return httpx.Request("POST", f"https://api.fastly.com/purge/{cached_url}", headers=headers)


def _ask_bunny(config: CdnConfig, entries: Sequence[_Entry]) -> httpx.Request:
    url = f"https://api.bunny.net/purge?url={quote(entries[0].url, safe='')}&async=false"
    return httpx.Request("POST", url, headers={"AccessKey": _token(config)})


def _ask_template(config: CdnConfig, entries: Sequence[_Entry]) -> httpx.Request:
    (target,), first = config.purge_urls, entries[0]
    url = target.replace("{url}", quote(first.url, safe="")).replace("{path}", quote(first.path, safe=""))
    headers = read_headers(config.purge_headers_file) if config.purge_headers_file else []
    body = fill_body(config.purge_body, [each.url for each in entries], [each.path for each in entries])
    if body and all(name.lower() != "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    return httpx.Request(config.purge_method, url, headers=headers, content=body or None)


def _has_success(response: httpx.Response) -> bool:
    try:
        return bool(response.json()["success"] is True)
    except (ValueError, LookupError, TypeError):
        return False


_REDIRECTED = frozenset(range(300, 400))
_ROWS: Final = {
    "url": _Row(_ask_cache, not_cached=_REDIRECTED | {404, 410, 412}),
    "cloudflare": _Row(_ask_cloudflare, batch=100, confirms=_has_success),
    "fastly": _Row(_ask_fastly, at_once=8),
    "bunny": _Row(_ask_bunny, at_once=8),
    "template": _Row(_ask_template),
}


class Cdn:
    """Purges paths. Safe to use from many tasks: where a request can have several URLs, they share requests.

    ``transport``: of tests.
    """

    def __init__(
        self, config: CdnConfig, telemetry: Telemetry, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._config = config
        self._telemetry = telemetry
        self._transport = transport
        self._row = _ROWS[config.purge]
        self._batch = config.purge_batch or self._row.batch
        self._waiting: list[_Entry] = []
        self._sending = trio.Lock()
        self._paused_until = 0.0  # by Trio's clock
        self._pause_detail = ""

    @property
    def slots(self) -> int:
        """How many tasks can be worked on at once."""
        return 2 if self._is_direct else _SHARED_SLOTS

    @property
    def _is_direct(self) -> bool:
        """Whether each task sends its own requests: caches have no rate limit, and each may be in another state."""
        return self._config.purge == "url"

    async def purge(self, paths: Iterable[str]) -> None:
        """Purge these paths at every public URL. Raises `Unavailable` (CDN, or OBJECT if it refuses one of the URLs);
        then, or after a cancel, some may be purged."""
        self._check_pause()
        entries = [entry for path in paths for entry in self._entries(path)]
        async with httpx.AsyncClient(
            trust_env=False, timeout=_TIMEOUT_S, verify=self._ssl_context, transport=self._transport
        ) as http:
            if self._is_direct:
                for each in entries:
                    await self._purge(http, [each])
            else:
                await self._share_requests(http, entries)
        for each in entries:
            if each.refused:
                raise Unavailable(Dependency.OBJECT, f"the CDN refuses to purge {each.path}")

    async def _share_requests(self, http: httpx.AsyncClient, entries: Sequence[_Entry]) -> None:
        """Purge the entries together with those of other tasks, which wait while one of them sends.

        The oldest entries go first, also if another task sends them. So a rate limit interrupts few tasks, which must
        begin again.
        """
        self._waiting += entries
        try:
            while not all(each.ended for each in entries):
                async with self._sending:
                    if not all(each.ended for each in entries):
                        await self._send_oldest(http)
                        self._waiting = [each for each in self._waiting if not each.ended]
        finally:
            own = set(map(id, entries))
            self._waiting = [each for each in self._waiting if id(each) not in own]

    async def _send_oldest(self, http: httpx.AsyncClient) -> None:
        oldest = self._waiting[: self._row.at_once * self._batch]
        failures: list[Unavailable] = []

        async def send(entries: Sequence[_Entry]) -> None:
            try:
                await self._purge(http, entries)
            except Unavailable as error:  # the other requests go on
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for first in range(0, len(oldest), self._batch):
                nursery.start_soon(send, oldest[first : first + self._batch])
        if failures:
            raise failures[0]

    def _entries(self, path: str) -> list[_Entry]:
        if self._config.purge == "url":
            return [_Entry(path, purge_url(target, path)) for target in self._config.purge_urls]
        origins = ("", *self._config.origins)
        return [_Entry(path, base + path, origin) for base in self._config.public_urls or ("",) for origin in origins]

    async def _purge(self, http: httpx.AsyncClient, entries: Sequence[_Entry]) -> None:
        """Send one request, or if it is refused, one for each half."""
        if await self._send(http, entries):
            for each in entries:
                each.ended = True
        elif len(entries) == 1:
            entries[0].ended = entries[0].refused = True
        else:
            middle = len(entries) // 2
            await self._purge(http, entries[:middle])
            await self._purge(http, entries[middle:])

    async def _send(self, http: httpx.AsyncClient, entries: Sequence[_Entry]) -> bool:
        """Return whether the CDN has purged the entries; False if it refuses this request. Raises `Unavailable`."""
        self._check_pause()
        request = self._make_request(entries)
        cache = urlsplit(str(request.url)).netloc.rpartition("@")[2]  # the URL may contain a token
        log = _log.bind(cache=cache, object=entries[0].path, urls=len(entries))
        try:
            with trio.fail_after(_TIMEOUT_S):  # httpx bounds each of its steps, not their sum
                response = await http.send(request)
        except (httpx.HTTPError, trio.TooSlowError) as error:
            self._telemetry.count(instruments.PURGES, outcome="unreachable")
            log.warning("purge.failed", error=repr(error))
            raise self._paused(repr(error), 0.0) from error
        status = response.status_code
        is_purged = response.is_success and self._row.confirms(response)
        is_purged = is_purged or status in self._row.not_cached
        self._telemetry.count(instruments.PURGES, outcome="ok" if is_purged else "refused")
        if is_purged:
            return True
        log.warning("purge.failed", status=status)
        if status == _REFUSED or response.is_success:
            return False
        asked_s = retry_after_s(response.headers.get("retry-after", ""))
        pause_s = _DENIED_PAUSE_S if status in _DENIED else _PAUSE_S
        raise self._paused(f"it answered {status}", pause_s if asked_s is None else asked_s)

    def _make_request(self, entries: Sequence[_Entry]) -> httpx.Request:
        try:
            return self._row.request(self._config, entries)
        except (OSError, ValueError) as error:
            setting = PREFIX + ("CDN__PURGE_HEADERS_FILE" if self._config.purge == "template" else "CDN__TOKEN_FILE")
            _log.error("purge.failed", setting=setting, error=str(error))
            raise self._paused(f"{setting}: {error}", _PAUSE_S) from None

    def _paused(self, detail: str, pause_s: float) -> Unavailable:
        """Let all purges wait. With one request per cache (`url`) the pause of the consumer is enough."""
        if self._config.purge != "url":
            self._paused_until, self._pause_detail = trio.current_time() + pause_s, detail
        return Unavailable(Dependency.CDN, detail)

    def _check_pause(self) -> None:
        if trio.current_time() < self._paused_until:
            raise Unavailable(Dependency.CDN, self._pause_detail)

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # takes some 20 ms


def _token(config: CdnConfig) -> str:
    """Return the token of the CDN. Read for each request, so that a new one needs no restart."""
    token = Path(config.token_file).read_text(encoding="ascii").strip()
    if not token or not token.isprintable() or " " in token:
        raise ValueError("expected one token of printable ASCII characters without blanks")
    return token


def read_headers(path: str) -> list[tuple[str, str]]:
    """Return the headers in a file, one ``Name: value`` per line. Raises OSError, or ValueError for another line."""
    headers = []
    for number, line in enumerate(Path(path).read_text(encoding="ascii").splitlines(), 1):
        if line.strip():
            found = _HEADER.fullmatch(line)
            if found is None:  # the error does not quote the line, which may hold a token
                raise ValueError(f"line {number} is not of the form Name: value")
            headers.append((found[1], found[2]))
    return headers


def check_files(config: CdnConfig) -> None:
    """Raise OSError or ValueError if a file that requests need cannot be read."""
    if config.token_file:
        _token(config)
    if config.purge_headers_file:
        read_headers(config.purge_headers_file)


def purge_url(target: str, path: str) -> str:
    """Return the URL for a path: ``{path}`` of a template is replaced (percent-encoded in a query), or the path is
    appended."""
    if "{path}" not in target:
        return target.rstrip("/") + path
    before, _, after = target.partition("{path}")
    shown = quote(path, safe="") if "?" in before else path.removeprefix("/") if before.endswith("/") else path
    return before + shown + after
