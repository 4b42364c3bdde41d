"""Sorts the errors of coredis: an outage, a redirection to another server, or a refusal."""

from __future__ import annotations

import anyio
import trio
from coredis import exceptions as refusals

from avion_media.common.errors import MediaError

# The server responds, but cannot run the command now. This passes.
PASSING = frozenset(
    {"MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "REDIRECTED", "UNBLOCKED"}
)
# The server cannot be reached.
UNAVAILABLE = (
    refusals.ConnectionError,  # includes LOADING, and a Cancelled inside a connect, which coredis turns into this
    refusals.ReadOnlyError,  # the address leads to a replica after a failover
    refusals.AuthenticationError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
    trio.TooSlowError,
)
# Every error that a call can raise.
ANY = (*UNAVAILABLE, refusals.RedisError)
# Signs that another server may be in charge by now.
DEPOSED = (refusals.ReadOnlyError, refusals.UnblockedError, refusals.ClusterDownError, refusals.AskError)

# coredis removes these codes from the message; callers need them.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (refusals.StreamDuplicateConsumerGroupError, "BUSYGROUP"),
    (refusals.StreamConsumerGroupError, "NOGROUP"),
    (refusals.NoScriptError, "NOSCRIPT"),
    (refusals.WrongTypeError, "WRONGTYPE"),
    (refusals.UnblockedError, "UNBLOCKED"),  # a failover under a blocking read
    (refusals.ClusterDownError, "CLUSTERDOWN"),
    (refusals.TryAgainError, "TRYAGAIN"),
    (refusals.AskError, "REDIRECTED"),  # also MOVED: in circles, or by a single server that became part of a cluster
    (refusals.ClusterCrossSlotError, "CROSSSLOT"),
    (refusals.AuthorizationError, "NOPERM"),
)


class RedisRefused(MediaError):
    """Redis returned an error that is not an outage: a bug. ``code`` is its first word (``NOGROUP``)."""

    def __init__(self, command: str, code: str, message: str) -> None:
        super().__init__(f"redis refused {command}: {code} {message}")
        self.code = code


def code_of(error: BaseException) -> tuple[str, str]:
    """Return the first word of an error of Redis, and the rest."""
    message = str(error)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, message
    code, _, rest = message.partition(" ")
    return (code, rest) if code.isupper() else ("ERR", message)


def cause_of(error: BaseException) -> str:
    """Return the innermost cause, in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError | anyio.ClosedResourceError):
        return "the connection was closed"
    if isinstance(error, refusals.AuthenticationRequiredError):
        return "it requires a password, and its URL has none (NOAUTH)"
    if isinstance(error, refusals.AuthenticationFailureError):
        return "it refuses the user or the password in its URL (WRONGPASS)"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)  # without "[Errno 111]"
    return str(error) or type(error).__name__
