"""What the children of the tree share: configuration, resources, phase, telemetry. Built once per process."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from avion_media.config import Config
from avion_media.domain.errors import Dependency
from avion_media.domain.tasks import QUEUES
from avion_media.lifecycle import Lifecycle, Phase
from avion_media.media.pipeline import MediaPipeline
from avion_media.queue import QueueStats, RemoteBoard, StatusBoard, TaskQueue
from avion_media.redis import Redis
from avion_media.resources import Slot
from avion_media.store import ObjectStore
from avion_media.telemetry import NO_TELEMETRY, Telemetry, get_logger

_log = get_logger(path="readiness")
Drain = Callable[[float], Awaitable[None]]
"""Ends what is under way, within the seconds it is given."""
ROLES = ("grpc", "http", "events", "processing", "cache", "delete", "sweeper")
NEEDED_BY: dict[Dependency, frozenset[str]] = {
    Dependency.REDIS: frozenset(ROLES),
    Dependency.STORE: frozenset(ROLES) - {"events"},
}
"""The dependencies that must answer once before a replica with one of these roles is ready."""


def consumer_name() -> str:
    """A name for this process in the consumer groups: readable, and never used twice."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Limiter:
    """How a bound on something stands, for gauges: slots used, slots there are, and who waits for one."""

    used: int
    limit: int
    waiting: int = 0


@dataclass(slots=True)
class Runtime:
    """Shared by all nodes. The store and the sandbox are in slots, since their nodes can restart on their own.

    What uses Redis exists from the start and stays: for its users, a restart of its node is a short outage like any
    other. Leases outlive it that way, and subscriptions come back.
    """

    config: Config
    roles: frozenset[str] = frozenset(ROLES)
    telemetry: Telemetry = NO_TELEMETRY
    consumer: str = field(default_factory=consumer_name)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    redis: Redis = field(init=False)
    board: StatusBoard = field(init=False)
    remote_board: RemoteBoard = field(init=False)
    store: Slot[ObjectStore] = field(default_factory=lambda: Slot(Dependency.STORE))
    pipeline: Slot[MediaPipeline] = field(default_factory=lambda: Slot(Dependency.SANDBOX))
    queues: dict[str, TaskQueue] = field(init=False)
    drains: dict[str, Drain] = field(default_factory=dict)
    limiters: dict[str, Callable[[], Limiter]] = field(default_factory=dict)
    queue_stats: dict[str, QueueStats] = field(default_factory=dict)  # as they were a few seconds ago
    warnings: list[str] = field(default_factory=list)  # settings of Redis under which it may lose tasks
    swept_at: float = 0.0  # when the last pass of the reconciliation ended, Unix seconds
    active_requests: Callable[[], int] = lambda: 0  # of the origin
    components_ready: bool = False
    down: frozenset[str] = frozenset()  # paths of the nodes that do not run
    never_answered: set[Dependency] = field(default_factory=set)  # of those that the roles need
    calls_can_run: bool = True  # every node runs that a gRPC call needs
    flips: int = 0  # how often `ready` has changed
    stop_requested: trio.Event = field(default_factory=trio.Event)  # set: drain and exit
    _all_answered: trio.Event = field(default_factory=trio.Event)
    _was_ready: bool = False
    _readiness_listeners: list[Callable[[bool], None]] = field(default_factory=list)

    @contextmanager
    def draining(self, name: str, drain: Drain) -> Iterator[None]:
        """Have ``drain`` called in the DRAINING phase, for the length of the block."""
        self.drains[name] = drain
        try:
            yield
        finally:
            del self.drains[name]

    @property
    def serving(self) -> bool:
        """Whether gRPC calls should be sent here: every node runs that they need, see `Tree.calls_can_run`."""
        return self.lifecycle.phase is Phase.READY and self.components_ready and self.calls_can_run

    @property
    def ready(self) -> bool:
        """Whether this replica is whole: every node of its tree runs."""
        return self.lifecycle.phase is Phase.READY and self.components_ready and not self.down

    def note_answer(self, dependency: Dependency) -> None:
        """Remember that a dependency has answered, for the life of the process: outages after that are a state."""
        self.never_answered.discard(dependency)
        if not self.never_answered:
            self._all_answered.set()

    async def first_answers(self) -> None:
        """Wait until each dependency that the roles need has answered once. A cancel leaves nothing behind."""
        if self.never_answered:
            await self._all_answered.wait()

    def set_components_ready(self, ready: bool) -> None:
        """Told by the readiness child."""
        self.components_ready = ready
        self._tell_readiness()

    def set_down(self, down: frozenset[str], *, calls_can_run: bool) -> None:
        """Take over the state of the tree, at each of its transitions."""
        if down != self.down:
            before, self.down, self.calls_can_run = self.down, down, calls_can_run
            self._tell_readiness()
            if self.lifecycle.phase is Phase.READY and _topmost(before) != _topmost(down):
                _log.info("readiness", ready=self.ready, down=_topmost(down))

    def on_readiness(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``listener`` with `serving` now and at whatever may change it; returns what takes it off again."""
        self._readiness_listeners.append(listener)
        listener(self.serving)
        return lambda: self._readiness_listeners.remove(listener)

    def _tell_readiness(self, _phase: Phase | None = None) -> None:
        self.flips += self.ready is not self._was_ready
        self._was_ready = self.ready
        for listener in list(self._readiness_listeners):
            listener(self.serving)

    def __post_init__(self) -> None:
        settings = self.config.redis
        self.redis = Redis(settings.url, settings.connections, settings.timeout)
        self.board = StatusBoard(self.redis)
        self.remote_board = RemoteBoard(self.redis)
        self.queues = {name: TaskQueue(self.redis, name, telemetry=self.telemetry) for name in QUEUES}
        self.lifecycle.on_change(self._tell_readiness)
        self.never_answered |= {each for each, roles in NEEDED_BY.items() if roles & self.roles}

    def readiness(self) -> dict[str, Any]:
        """Return the report of ``/readyz``.

        An outage of Redis or the store does not make a replica unready: every replica has it, and callers learn more
        from UNAVAILABLE with RetryInfo than from no endpoint at all. But a dependency that has never answered does: it
        may be a mistake in the settings of this very replica, and must stop a rollout.
        """
        causes = {Dependency.REDIS: self._redis_cause(), Dependency.STORE: self._store_cause()}
        return {
            "ready": self.ready,
            "flips": self.flips,
            "phase": str(self.lifecycle.phase),
            "down": sorted(self.down),
            "dependencies": {str(each): self._state_of(each, cause) for each, cause in causes.items()},
            "reasons": {str(each): cause for each, cause in causes.items() if cause},
            "sandbox": self._sandbox_state(),
            "warnings": self.warnings,
        }

    def _state_of(self, dependency: Dependency, cause: str) -> str:
        if dependency in self.never_answered:
            return "never_answered"
        return "unavailable" if cause else "up"

    def _redis_cause(self) -> str:
        """Why Redis is unavailable; empty while it is not."""
        available = self.redis.available
        return "" if available.up else available.detail or "it does not answer"

    def _store_cause(self) -> str:
        """Why the store is unavailable; empty while it is not."""
        return self.store.get().cause if self.store.is_filled else "not started"

    def _sandbox_state(self) -> dict[str, Any] | None:
        """What confines the decoders on this machine; None while there is no sandbox."""
        if not self.pipeline.is_filled:
            return None
        report = self.pipeline.get().sandbox.report
        return {
            "landlock": report.landlock_abi,
            "seccomp": report.seccomp,
            "drops_root": report.drops_root,
            "gaps": list(report.gaps),
            "missing_programs": dict(report.missing_programs),
        }


def _topmost(paths: frozenset[str]) -> list[str]:
    """Without those below another one, which says it for them."""
    return sorted(path for path in paths if not any(path.startswith(f"{above}/") for above in paths))
