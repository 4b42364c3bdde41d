"""Errors of remote servers and resolvers, with more detail than `Rejected` and `Unavailable`."""

from __future__ import annotations

from avion_media.common.errors import Dependency, Rejected, Unavailable


class ServerError(Unavailable):
    """An HTTP status that asks to retry later.

    ``of_host``: the whole server has a problem (a gateway without a backend, an overload), not only this resource.
    ``asked_pause_s`` is the time in ``Retry-After``; None if it is missing or unreadable.
    """

    def __init__(self, status: int, *, of_host: bool, asked_pause_s: float | None) -> None:
        super().__init__(Dependency.REMOTE, f"HTTP {status}", retry_after_s=asked_pause_s or 1.0)
        self.of_host = of_host
        self.asked_pause_s = asked_pause_s


class ResolverTrouble(Unavailable):
    """A name could not be looked up: our resolver failed, or the domain's name servers.

    The server of the URL was never contacted, so this does not count against it.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Dependency.REMOTE, detail)


class RemoteGone(Rejected):
    """The resource does not exist (any more), or its server forbids copies: one that exists must be removed."""
