"""What an answer of a remote server or a resolver meant, where `Rejected` and `Unavailable` alone say too little."""

from __future__ import annotations

from avion_media.domain.errors import Dependency, Reason, Rejected, Unavailable


class ServerError(Unavailable):
    """An HTTP status that asks to come back.

    ``of_host``: the whole server is in trouble (a gateway without a backend, an overload), not only this resource.
    ``asked_pause_s`` is what its ``Retry-After`` asks for; None when it said nothing that can be understood.
    """

    def __init__(self, status: int, *, of_host: bool, asked_pause_s: float | None) -> None:
        super().__init__(Dependency.REMOTE, f"HTTP {status}", retry_after_s=asked_pause_s or 1.0)
        self.of_host = of_host
        self.asked_pause_s = asked_pause_s


class ResolverTrouble(Unavailable):
    """No answer about a name, not even that there is none: our resolver's doing, or that of the domain's own servers.

    Nobody can tell which, and the server of the URL was never asked: it is not held against it.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Dependency.REMOTE, detail)


class RemoteGone(Rejected):
    """The server says that there is no such resource (any more), or that it must not be served."""

    def __init__(self, status: int) -> None:
        super().__init__(Reason.REMOTE_STATUS, f"HTTP {status}")
