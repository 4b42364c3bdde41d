"""One guarded GET into a file: follows redirects, interprets the response, and limits its body.

Each hop is parsed, checked and dialled again, on its own connection. No proxy, no cookies, no credentials, no
compression. `dial` connects, `exchange` speaks HTTP.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote, unquote, urljoin

import trio

from guarded_fetch.dial import DEFAULT_TIMEOUTS, Dialler, FetchTimeouts, Resolve, resolve_by_system
from guarded_fetch.errors import FetchCode, FetchRejected, FetchUnavailable, Gone, NotCacheable, ServerError
from guarded_fetch.exchange import Exchange, shortened
from guarded_fetch.guard import AddressGuard, AddressRefused
from guarded_fetch.url import RemoteUrl, has_forbidden_character, parse_remote_url

NameOf = Callable[[RemoteUrl], str]
"""Returns a name of a URL that is the same each time."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_NOT_MODIFIED = 304
_GONE = frozenset({401, 403, 404, 410, 451})
# Statuses worth a retry. Those of the whole server count against it; those of this resource alone do not.
_OF_RESOURCE = frozenset({408, 425, 500})
_OF_HOST = frozenset({429, 502, 503, 504, 520, 521, 522, 523, 524, 530})
_MIN_RETRY_AFTER_S = 1.0
_MAX_RETRY_AFTER_S = 3600.0
_MAX_RETRY_AFTER_CHARACTERS = 64
_FRAMING_BYTES = 256 << 10  # headers, interim responses, and the framing of a small body
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,126}"')  # RFC 9110, 8.8.3; longer ones than this are not kept
_MAX_DATE_CHARACTERS = 64
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.S)  # RFC 9110, 5.6.4
_FORBIDDING = frozenset({"private", "no-store"})
_SOURCE, _ETAG_NAME, _DATE_NAME = "remote-source", "remote-etag", "remote-date"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched file: its size, its source, and validators for revalidation if the server sent them."""

    size_bytes: int
    final_url: RemoteUrl
    validators: Validators | None


class Admitted(Protocol):
    """Encloses one request to a server: see `Fetcher`."""

    def __call__(self, url: RemoteUrl, deadline: float, *, redirected: bool) -> AbstractAsyncContextManager[None]: ...


class Fetcher:
    """Fetches remote files under the guard. Safe to use from many tasks."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        max_bytes: int,
        timeout_s: float,
        user_agent: str,
        accept: str = "*/*",
        admitted: Admitted | None = None,
        resolve: Resolve = resolve_by_system,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: FetchTimeouts = DEFAULT_TIMEOUTS,
        check: Callable[[RemoteUrl], None] = lambda _url: None,
    ) -> None:
        """``timeout_s`` limits a whole fetch, redirects included; ``ssl_context`` is set to offer only HTTP/1.1.

        ``check`` is called with each URL before anything else is done with it, redirects included, and may raise.
        ``admitted(url, deadline, redirected=...)`` encloses each single request, which must end by ``deadline`` (Trio's
        clock), and may raise; ``redirected``: another server redirected here, and used some of the time. What both
        raise leaves `fetch` as it is. ``accept`` is the header of that name: some servers choose by it.
        """
        ssl_context = ssl_context or ssl.create_default_context()
        ssl_context.set_alpn_protocols(["http/1.1"])
        self._dialler = Dialler(guard, resolve, ssl_context, timeouts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._user_agent = user_agent
        self._accept = accept
        self._admitted = admitted
        self._timeouts = timeouts
        self._check = check

    async def fetch(self, url: RemoteUrl, fd: int) -> Fetched:
        """GET ``url`` into the empty file ``fd``. Errors and cancels as for `fetch_if_changed`."""
        fetched = await self.fetch_if_changed(url, fd, None)
        assert fetched is not None  # 304 is no answer to a request without conditions
        return fetched

    async def fetch_if_changed(
        self, url: RemoteUrl, fd: int, known: Validators | None, max_bytes: int = 0
    ) -> Fetched | None:
        """GET ``url`` into the empty file ``fd``. Return None, and leave the file empty, if the server confirms that
        the ``known`` copy is current.

        Raises `FetchRejected`: REMOTE_REFUSED (by the guard, or a name that does not exist; both must look the same),
        REMOTE_STATUS (the server's status), TOO_LARGE, EMPTY or NOT_CACHEABLE; `Gone` if no copy may be served any
        more. Raises `FetchUnavailable` if another attempt may help, also after an interrupted body; `ServerError` for a
        status. Raises also what ``check`` and ``admitted`` raise, and `OSError` of a write to ``fd``. A cancel closes
        the connection, and leaves the file partly written.
        """
        try:
            with trio.fail_after(self._timeout_s) as scope:
                return await self._follow(url, fd, known, max_bytes or self._max_bytes, scope.deadline)
        except trio.TooSlowError:
            raise FetchUnavailable(f"took longer than {self._timeout_s:g} s") from None
        except AddressRefused as refusal:
            raise FetchRejected(FetchCode.REMOTE_REFUSED, shortened(str(refusal))) from None

    async def _follow(
        self, url: RemoteUrl, fd: int, known: Validators | None, max_bytes: int, deadline: float
    ) -> Fetched | None:
        for hop in range(_MAX_REDIRECTS + 1):
            self._check(url)
            self._dialler.check(url)  # first, so that a refused URL does not wait for a slot
            async with self._enclosed(url, deadline, redirected=hop > 0), self._dialler.open_stream(url) as stream:
                answer = Exchange(stream, self._timeouts, max_bytes + max_bytes // 4 + _FRAMING_BYTES)
                conditions = known.conditions(url) if known is not None else []
                await answer.ask(url, self._user_agent, conditions, accept=self._accept)
                location = answer.header(b"location")
                if answer.status not in _REDIRECTS or not location:
                    is_confirmed = answer.status == _NOT_MODIFIED and bool(conditions)
                    if not is_confirmed:
                        _check_status(answer)
                    _check_cacheable(answer)
                    if is_confirmed:
                        return None
                    size_bytes = await self._save_body(answer, fd, max_bytes)
                    etag, date = answer.header(b"etag"), answer.header(b"last-modified")
                    return Fetched(size_bytes, url, validators_of(url, etag, date))
            url = _redirect_target(url, location)
        raise FetchRejected(FetchCode.REMOTE_STATUS, f"more than {_MAX_REDIRECTS} redirects")

    def _enclosed(self, url: RemoteUrl, deadline: float, *, redirected: bool) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._admitted is None else self._admitted(url, deadline, redirected=redirected)

    async def _save_body(self, answer: Exchange, fd: int, max_bytes: int) -> int:
        _check_announced(answer, max_bytes)
        size = 0
        window_ends, window_bytes = trio.current_time() + self._timeouts.window_s, 0
        while chunk := await answer.read():
            if size + len(chunk) > max_bytes:
                raise FetchRejected(FetchCode.TOO_LARGE, f"more than {max_bytes} bytes")
            # In the event loop, because writing some KiB to the page cache costs less than a thread.
            _write_at(fd, chunk, size)
            size += len(chunk)
            window_bytes += len(chunk)
            if trio.current_time() > window_ends:
                if window_bytes < self._timeouts.min_window_bytes:
                    raise FetchUnavailable("sends too slowly")
                window_ends, window_bytes = trio.current_time() + self._timeouts.window_s, 0
        if not size:
            raise FetchRejected(FetchCode.EMPTY)
        return size


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _check_announced(answer: Exchange, max_bytes: int) -> None:
    encoding = answer.header(b"content-encoding").lower()
    if encoding not in ("", "identity"):
        raise FetchRejected(FetchCode.REMOTE_STATUS, f"unasked content encoding {shortened(encoding)}")
    announced = answer.header(b"content-length")  # h11 allows only digits
    if announced and int(announced) > max_bytes:
        raise FetchRejected(FetchCode.TOO_LARGE, f"announced {announced} bytes")


def _redirect_target(url: RemoteUrl, location: str) -> RemoteUrl:
    if has_forbidden_character(location):  # before urljoin, which silently drops some of them
        raise AddressRefused("redirect: white space, control characters or a backslash")
    try:
        target = parse_remote_url(urljoin(str(url), location))
    except ValueError as error:  # InvalidUrl, and errors of urljoin
        raise AddressRefused(f"redirect: {error}") from None
    if url.scheme == "https" and target.scheme == "http":
        raise AddressRefused("redirect from https to http")
    return target


def _check_status(answer: Exchange) -> None:
    status = answer.status
    if status == 200:
        return
    if status in _GONE:
        raise Gone(FetchCode.REMOTE_STATUS, f"HTTP {status}")
    if status in _OF_HOST or status in _OF_RESOURCE:
        asked = answer.header(b"retry-after")
        raise ServerError(status, of_host=status in _OF_HOST, retry_after_s=retry_after_s(asked))
    raise FetchRejected(FetchCode.REMOTE_STATUS, f"HTTP {status}")


def _check_cacheable(answer: Exchange) -> None:
    control = ", ".join(answer.headers(b"cache-control"))
    if forbids_copies(control):
        raise NotCacheable(shortened(control))


def forbids_copies(cache_control: str) -> bool:
    """Return whether a value of ``Cache-Control`` has the directive ``private`` or ``no-store`` (RFC 9111, 5.2.2).

    ``private="a, b"`` counts as well, although it is about single headers: many servers mean the whole response. What
    stands in other quoted arguments does not count; behind a quote that is never closed it does.
    """
    directives = _QUOTED.sub("", cache_control).split(",")
    names = {each.partition("=")[0].strip().lower() for each in directives}
    return not _FORBIDDING.isdisjoint(names)


def retry_after_s(text: str) -> float | None:
    """Return ``Retry-After``, as seconds or as a date (RFC 9110, 10.2.3), in limited seconds; None if it is neither."""
    if len(text) > _MAX_RETRY_AFTER_CHARACTERS or not text.isascii():
        return None
    if text.isdigit():
        seconds = float(text)
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, _MIN_RETRY_AFTER_S), _MAX_RETRY_AFTER_S)


def source_of(url: RemoteUrl) -> str:
    """Return the SHA-256 of a URL, in hex."""
    return hashlib.sha256(str(url).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Validators:
    """Validators of one response. They are valid only for its URL: ``source`` is what ``name_of`` makes of that URL.

    The URL may redirect elsewhere later, where the same entity tag would mean another file.
    """

    source: str
    etag: str = ""
    last_modified: str = ""
    name_of: NameOf = field(default=source_of, compare=False, repr=False)

    def named_by(self, name_of: NameOf, url: RemoteUrl) -> Validators:
        """Return the same validators of a response from ``url``, with another name of it: a keyed one shows nobody
        where the file came from."""
        return replace(self, source=name_of(url), name_of=name_of)

    def conditions(self, url: RemoteUrl) -> list[tuple[str, str]]:
        """Return the headers that make a request to ``url`` conditional; none if the response came from another URL."""
        if self.name_of(url) != self.source:
            return []
        pairs = (("If-None-Match", self.etag), ("If-Modified-Since", self.last_modified))
        return [(name, value) for name, value in pairs if value]

    def to_metadata(self) -> dict[str, str]:
        """Return metadata to store beside the file, percent-encoded, because object stores and their signatures treat
        spaces differently."""
        pairs = ((_SOURCE, self.source), (_ETAG_NAME, self.etag), (_DATE_NAME, self.last_modified))
        return {name: quote(value, safe="") for name, value in pairs if value}


def validators_of(url: RemoteUrl, etag: str, last_modified: str) -> Validators | None:
    """Return the validators of a response from ``url``; None without well-formed ones, because the server is not
    trusted."""
    kept_etag = etag if _ETAG.fullmatch(etag) else ""
    kept_date = last_modified if _is_date(last_modified) else ""
    return Validators(source_of(url), kept_etag, kept_date) if kept_etag or kept_date else None


def validators_from(metadata: Mapping[str, str], name_of: NameOf = source_of) -> Validators | None:
    """Read what `Validators.to_metadata` wrote; None if it is missing or malformed. ``name_of``: see `Validators`."""
    source, etag, date = (unquote(metadata.get(name, "")) for name in (_SOURCE, _ETAG_NAME, _DATE_NAME))
    if not source or (etag and not _ETAG.fullmatch(etag)) or (date and not _is_date(date)):
        return None
    return Validators(source, etag, date, name_of) if etag or date else None


def _is_date(text: str) -> bool:
    if len(text) > _MAX_DATE_CHARACTERS or not text.isascii() or not text.isprintable():
        return False
    try:
        parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return False
    return True
