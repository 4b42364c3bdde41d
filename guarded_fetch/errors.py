"""The errors of a fetch: a rejection for good, or a reason to come back."""

from __future__ import annotations

from enum import StrEnum


class FetchCode(StrEnum):
    """Why a fetch is rejected. The list only grows."""

    REMOTE_REFUSED = "remote_refused"  # by the guard, or a name that does not exist; both look the same on purpose
    REMOTE_STATUS = "remote_status"  # an error status, too many redirects, or not HTTP
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    NOT_CACHEABLE = "not_cacheable"  # the server forbids copies: Cache-Control with private or no-store


class FetchError(Exception):
    """Base of all errors of a fetch. ``detail`` is for operators: untrusted, but short and printable."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class FetchRejected(FetchError):
    """The URL or its server is at fault, so a retry cannot help."""

    def __init__(self, code: FetchCode, detail: str = "") -> None:
        super().__init__(detail)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else str(self.code)


class Gone(FetchRejected):
    """The resource does not exist (any more), or no copy of it may be served."""


class NotCacheable(Gone):
    """The server forbids shared caches to keep its response."""

    def __init__(self, cache_control: str) -> None:
        super().__init__(FetchCode.NOT_CACHEABLE, f"Cache-Control: {cache_control}")


class FetchUnavailable(FetchError):
    """The server cannot be reached, is slow, or broke off. Another attempt may help."""


class ServerError(FetchUnavailable):
    """An HTTP ``status`` that asks to retry later.

    ``of_host``: the whole server has a problem (a gateway without a backend, an overload), not only this resource.
    ``retry_after_s`` is the time in ``Retry-After``, from 1 to 3600 s; None if it is missing or unreadable.
    """

    def __init__(self, status: int, *, of_host: bool, retry_after_s: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.of_host = of_host
        self.retry_after_s = retry_after_s


class ResolverTrouble(FetchUnavailable):
    """A name could not be looked up: the resolver failed, or the domain's name servers.

    The server of the URL was never contacted, so this does not count against it.
    """


class TooManyLookups(FetchUnavailable):
    """Too many abandoned lookups, of one domain or in total, still occupy threads. Nothing was contacted.

    Some are over after ``retry_after_s``.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many lookups never got an answer")
        self.retry_after_s = retry_after_s
