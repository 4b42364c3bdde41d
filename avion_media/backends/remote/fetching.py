"""The fetcher and the poster of `guarded_fetch` with the errors, the limits and the names of this service."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import guarded_fetch
from avion_media.backends.remote.errors import RemoteGone, ResolverTrouble, ServerError
from avion_media.backends.remote.hosts import HostLimiter
from avion_media.backends.remote.own import OwnUrls
from avion_media.common.errors import Deferred, Dependency, MediaError, Reason, Rejected, Unavailable
from guarded_fetch import AddressGuard, Fetched, FetchError, FetchTimeouts, RemoteUrl, Resolve, Validators

# Some servers choose by it, and some respond with 406 if nothing fits, because their media have wrong types.
_ACCEPT: Final = "image/*, video/*, audio/*, */*;q=0.1"
NO_OWN_URLS: Final = OwnUrls()


class Fetcher:
    """Fetches remote files under the guard: see `guarded_fetch.Fetcher`. Safe to use from many tasks."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        max_bytes: int,
        timeout_s: float,
        user_agent: str = "avion-media",
        hosts: HostLimiter | None = None,
        resolve: Resolve = guarded_fetch.resolve_by_system,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: FetchTimeouts = guarded_fetch.DEFAULT_TIMEOUTS,
        is_blocked: Callable[[str], bool] = lambda _host: False,
        own_urls: OwnUrls = NO_OWN_URLS,
    ) -> None:
        """``hosts`` admits each single request; without it, every request is admitted. ``is_blocked`` says whether
        moderators have blocked a host. ``own_urls`` are not fetched, also after a redirect."""
        self._is_blocked = is_blocked
        self._own_urls = own_urls
        self._fetcher = guarded_fetch.Fetcher(
            guard,
            max_bytes=max_bytes,
            timeout_s=timeout_s,
            user_agent=user_agent,
            accept=_ACCEPT,
            admitted=None if hosts is None else _Admission(hosts),
            resolve=resolve,
            ssl_context=ssl_context,
            timeouts=timeouts,
            check=self._check,
        )

    async def fetch(self, url: RemoteUrl, fd: int) -> Fetched:
        """GET ``url`` into the empty file ``fd``. Errors and cancels as for `fetch_if_changed`."""
        with _translated_errors():
            return await self._fetcher.fetch(url, fd)

    async def fetch_if_changed(
        self, url: RemoteUrl, fd: int, known: Validators | None, max_bytes: int = 0
    ) -> Fetched | None:
        """GET ``url`` into the empty file ``fd``. Return None, and leave the file empty, if the server confirms that
        the ``known`` copy is current.

        Raises `Rejected`: BLOCKED_HOST, REMOTE_REFUSED (by the guard, or a name that does not exist; both must look the
        same), REMOTE_STATUS (the server's status), TOO_LARGE, EMPTY, NOT_CACHEABLE or OWN_URL; `RemoteGone` if no copy
        may be served any more. Raises `Unavailable` (REMOTE) if another attempt may help, also after an interrupted
        body; `ServerError` for a status. Raises also what ``hosts`` raises (`Deferred`), and `OSError` of a write to
        ``fd``. A cancel closes the connection, and leaves the file partly written.
        """
        with _translated_errors():
            return await self._fetcher.fetch_if_changed(url, fd, known, max_bytes)

    def _check(self, url: RemoteUrl) -> None:
        """Raise `Rejected` if a URL is one of this installation, or moderators have blocked its host."""
        if url in self._own_urls:
            raise Rejected(Reason.OWN_URL, url.server)
        if self._is_blocked(url.host):
            raise Rejected(Reason.BLOCKED_HOST, url.host)


class Poster:
    """Posts under the guard: see `guarded_fetch.Poster`. ``timeout_s`` limits a whole request."""

    def __init__(self, guard: AddressGuard, *, timeout_s: float, user_agent: str = "avion-media") -> None:
        self._poster = guarded_fetch.Poster(guard, timeout_s=timeout_s, user_agent=user_agent, accept=_ACCEPT)

    async def post(self, url: RemoteUrl, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        """Send ``body``. Return the status if it is 2xx or 410.

        Raises `ServerError` for any other status, and `Unavailable` (REMOTE) if there is no response. A cancel closes
        the connection; the server may have the request.
        """
        with _translated_errors():
            return await self._poster.post(url, body, headers)


class _Admission:
    """Admits requests by a `HostLimiter`, which judges their results by the errors of this service."""

    def __init__(self, hosts: HostLimiter) -> None:
        self._hosts = hosts

    @asynccontextmanager
    async def __call__(self, url: RemoteUrl, deadline: float, *, redirected: bool) -> AsyncIterator[None]:
        async with self._hosts.admitted(url, deadline, redirected=redirected):
            with _translated_errors():
                yield


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except FetchError as error:
        raise _translated(error) from error


def _translated(error: FetchError) -> MediaError:
    """Return the error of this service for one of `guarded_fetch`."""
    match error:
        case guarded_fetch.Gone():
            return RemoteGone(Reason(error.code), error.detail)
        case guarded_fetch.FetchRejected():
            return Rejected(Reason(error.code), error.detail)
        case guarded_fetch.ServerError():
            return ServerError(error.status, of_host=error.of_host, asked_pause_s=error.retry_after_s)
        case guarded_fetch.ResolverTrouble():
            return ResolverTrouble(error.detail)
        case guarded_fetch.TooManyLookups():
            return Deferred(error.detail, error.retry_after_s)
    return Unavailable(Dependency.REMOTE, error.detail)
