"""How many requests one host gets at once, and when its circuit breaker is open: shared by all replicas through Redis.

Two bounds, by host and by server (host and port):

- *slots*: so many fetches from one host at once, however many replicas there are. A slow host holds these and no more.
- *breaker*: after some failures in a row, or when it asks for time (``Retry-After``), a server is asked by nobody for a
  while; then by one probe, whose fate decides. Pauses double from probe to probe, up to a bound.

What counts as a failure is trouble of the whole server: no connection, no TLS, too slow, broken off, a gateway's
status. An answer of whatever kind ends the row, so that one broken file, or one hostile user with a list of them, does
not cut a server off. Refusals of the guard, names that cannot be resolved, cancels and failures of our own side say
nothing about a server.

The queue gives out no more tasks of one server than there are slots, and none of a server that turned a task away, for
as long as it is asked to (`Deferred`). So no crowd of tasks comes back at once. Only tasks that other servers
redirect here can find the slots taken; they come back one by one.

A breaker in each process was considered: it needs no Redis, but twenty replicas then knock twenty times at a server
that is down, and ignore what it asked of one of them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Protocol

import trio

from avion_media.domain.errors import Deferred, Dependency, Rejected, Unavailable
from avion_media.redis import Redis, Script
from avion_media.remote.errors import ResolverTrouble, ServerError
from avion_media.remote.url import RemoteUrl

_LUA = files("avion_media.remote") / "lua"
_ACQUIRE = Script("acquire", (_LUA / "acquire.lua").read_text())
_RELEASE = Script("release", (_LUA / "release.lua").read_text())
_SLOT_MARGIN_S = 10.0  # a slot outlives the fetch's own deadline by this, if its process dies
_LEAVE_S = 2.0  # bound of the shielded farewell
_WAIT_S = 1.0  # for a slot, or for the fate of the probe
_MAX_CAUSE_CHARACTERS = 200


class HostGate(Protocol):
    """Decides whether a request may be made now, and hears how it went."""

    def admitted(
        self, url: RemoteUrl, deadline: float, *, redirected: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """A block in which one request is made, until ``deadline`` (Trio's clock) at the latest; or `Deferred`.

        ``redirected``: others, who sent us here, used some of the time before.
        """


class NoHostLimits:
    """No bounds, no memory."""

    @asynccontextmanager
    async def admitted(self, url: RemoteUrl, deadline: float, *, redirected: bool = False) -> AsyncIterator[None]:
        """See `HostGate`."""
        yield


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds per host. Times in seconds."""

    slots: int
    breaker_failures: int
    first_pause_s: float
    longest_pause_s: float


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What is remembered of a server that failed. ``paused_until`` is in Unix seconds, 0 when it is not paused."""

    failures: int
    paused_until: float
    cause: str


class HostLimiter:
    """See the module's text; a `HostGate`. Safe to use from many tasks."""

    def __init__(self, redis: Callable[[], Redis], policy: HostLimits) -> None:
        self._redis = redis
        self._policy = policy

    @asynccontextmanager
    async def admitted(self, url: RemoteUrl, deadline: float, *, redirected: bool = False) -> AsyncIterator[None]:
        """See `HostGate`. Also raises `Unavailable` ("redis").

        The slot is given back whatever happens, within 2 s; if that fails, it is free a little after ``deadline``.
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
        except (Deferred, ResolverTrouble):  # it was never asked
            raise
        except Unavailable as error:
            outcome, cause = "failed" if error.dependency is Dependency.REMOTE else "unknown", error.detail
            raise
        except Rejected:
            outcome = "answered"
            raise
        except trio.Cancelled:
            # It took all the time there was. Otherwise this was cancelled, or the caller left too little time.
            if trio.current_time() >= deadline and not redirected:
                outcome, cause = "failed", "too slow"
            raise
        finally:
            if entered:
                # Shielded, so that a drain leaves no slot taken behind. Bounded by its deadline.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _LEAVE_S):
                    await self._leave(url, token, outcome, pause_s, cause)

    async def _enter(self, url: RemoteUrl, token: str, life_s: float, *, redirected: bool) -> bool:
        """True, or `Deferred`. After a cancel the slot may be taken, until the end of its life."""
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
            pass  # how the fetch went is the caller's news; the slot has its own end


async def breaker_state(redis: Redis, server: str) -> BreakerState | None:
    """What is remembered of a server (`RemoteUrl.server`); None when nothing is. Raises `Unavailable`."""
    failures, paused_until, cause = await redis.execute(
        "HMGET", _trouble_key(server), "failures", "paused_until", "cause"
    )
    if failures is paused_until is cause is None:
        return None
    return BreakerState(int(failures or 0), float(paused_until or 0), (cause or b"").decode(errors="replace"))


def _judge(error: ServerError) -> tuple[str, float, str]:
    if error.of_host and error.asked_pause_s is not None:
        return "asked", error.asked_pause_s, error.detail
    return ("failed" if error.of_host else "answered"), 0.0, error.detail


def _keys(url: RemoteUrl) -> tuple[str, str]:
    """Trouble and slots: in one cluster slot."""
    return _trouble_key(url.server), f"remote_slots:{{{url.host}}}"


def _trouble_key(server: str) -> str:
    host, _, port = server.rpartition(":")
    return f"remote_server:{{{host.strip('[]')}}}:{port}"
