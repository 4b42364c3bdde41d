"""Limits per host, and circuit breakers per server. All replicas share them through Redis.

- *slots*: the maximum of concurrent fetches from one host, over all replicas. A slow host occupies only these.

- *breaker*: after some failures in a row, or after ``Retry-After``, no replica contacts the server (host and port) for
a while. Then one probe is made, and its result decides. Pauses double with each failed probe, up to a limit.

Only problems of the whole server count as failures: no connection, no TLS, too slow, an interrupted response, a status
of a gateway. Any other response resets the count, so that one broken file, or an attacker with a list of them, does not
open the breaker. Refusals of the guard, names that cannot be resolved, cancels and failures of this service do not
count.

The queue starts at most as many tasks of one server as it has slots, and none while its breaker is open (`Deferred`).
So waiting tasks do not all retry at once. Only tasks that other servers redirect here can find all slots taken; they
retry one by one.

A breaker in each process was considered. It needs no Redis, but twenty replicas would then contact a server that is
down twenty times, and ignore what it asked of one of them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from avion_media.backends.redis import Redis, as_text, load_script
from avion_media.backends.remote.errors import ResolverTrouble, ServerError
from avion_media.common.errors import Deferred, Dependency, Rejected, Unavailable
from avion_media.common.records import HashRecord
from guarded_fetch import RemoteUrl

_ACQUIRE = load_script("avion_media.backends.remote", "acquire")
_RELEASE = load_script("avion_media.backends.remote", "release")
_SLOT_MARGIN_S = 10.0  # if a process dies, its slot is released this long after the fetch's deadline
_LEAVE_S = 2.0  # limit of the shielded release
_WAIT_S = 1.0  # wait for a slot, or for the result of the probe
_MAX_CAUSE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Limits per host. Times in seconds."""

    slots: int
    first_pause_s: float
    longest_pause_s: float
    breaker_failures: int = 5
    """Consecutive failures of one server before its circuit breaker opens."""


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What is remembered of a server that failed. ``paused_until`` is in Unix seconds; 0 if it is not paused."""

    failures: int = 0
    paused_until: float = 0.0
    cause: str = ""


BREAKER = HashRecord("breaker", BreakerState, "remote_server:{<host>}:<port>", "workers of remote media")


class HostLimiter:
    """Decides whether a request may be made now, and receives its result. Safe to use from many tasks."""

    def __init__(self, redis: Callable[[], Redis], policy: HostLimits) -> None:
        self._redis = redis
        self._policy = policy

    @asynccontextmanager
    async def admitted(self, url: RemoteUrl, deadline: float, *, redirected: bool = False) -> AsyncIterator[None]:
        """Enclose one request, which must end by ``deadline`` (Trio's clock). Raises `Deferred` or `Unavailable`
        ("redis") instead.

        ``redirected``: another server redirected here, and used some of the time. The slot is always
        released, within 2 s. If that fails, it becomes free shortly after ``deadline``.
        """
        token = secrets.token_hex(8)
        outcome, pause_s, cause = "unknown", 0.0, ""
        entered = False
        try:
            life_s = max(0.0, deadline - trio.current_time()) + _SLOT_MARGIN_S
            entered = await self._enter(url, token, life_s, redirected=redirected)
            yield
            outcome = "answered"
        except ServerError as error:
            outcome, pause_s, cause = _judge(error)
            raise
        except (Deferred, ResolverTrouble):  # the server was never contacted
            raise
        except Unavailable as error:
            outcome, cause = "failed" if error.dependency is Dependency.REMOTE else "unknown", error.detail
            raise
        except Rejected:
            outcome = "answered"
            raise
        except trio.Cancelled:
            # The server used all the time. Otherwise this was cancelled, or the caller left too little time.
            if trio.current_time() >= deadline and not redirected:
                outcome, cause = "failed", "too slow"
            raise
        finally:
            if entered:
                # Shielded, so that a drain leaves no slot taken. Bounded by its deadline.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _LEAVE_S):
                    await self._leave(url, token, outcome, pause_s, cause)

    async def _enter(self, url: RemoteUrl, token: str, life_s: float, *, redirected: bool) -> bool:
        """Return True, or raise `Deferred`. After a cancel the slot may be taken until it expires."""
        args = (token, self._policy.slots, f"{life_s:.3f}", _WAIT_S)
        answer, wait_s = await self._redis().run(_ACQUIRE, _keys(url), args)
        if answer == b"full":
            raise Deferred("all slots of this host are taken", float(wait_s), whole_tenant=not redirected)
        if answer == b"paused":
            detail = "the circuit breaker of this server is open"
            raise Deferred(detail, float(wait_s), expires=True, whole_tenant=not redirected)
        return True

    async def _leave(self, url: RemoteUrl, token: str, outcome: str, pause_s: float, cause: str) -> None:
        policy = self._policy
        args = (
            token, outcome, f"{pause_s:.3f}", policy.breaker_failures, policy.first_pause_s, policy.longest_pause_s,
            cause[:_MAX_CAUSE_CHARACTERS],
        )  # fmt: skip
        try:
            await self._redis().run(_RELEASE, _keys(url), args)
        except Unavailable:
            pass  # the caller gets the result of the fetch; the slot expires by itself


async def breaker_state(redis: Redis, server: str) -> BreakerState | None:
    """Return what is remembered of a server (`RemoteUrl.server`); None if nothing is. Raises `Unavailable`."""
    key = _trouble_key(server)
    fields = as_text(await redis.execute("HGETALL", key))
    return BREAKER.read_or_skip(fields, key) if fields else None


def _judge(error: ServerError) -> tuple[str, float, str]:
    if error.of_host and error.asked_pause_s is not None:
        return "asked", error.asked_pause_s, error.detail
    return ("failed" if error.of_host else "answered"), 0.0, error.detail


def _keys(url: RemoteUrl) -> tuple[str, str]:
    """Return the keys of breaker and slots, in one cluster slot."""
    return _trouble_key(url.server), f"remote_slots:{{{url.host}}}"


def _trouble_key(server: str) -> str:
    host, _, port = server.rpartition(":")
    return f"remote_server:{{{host.strip('[]')}}}:{port}"
