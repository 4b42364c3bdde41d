"""What the children of the tree share: configuration, resources, phase, telemetry. Built once per process."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import trio

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.history import History, QueueSample
from avion_media.backends.redis import NEARLY_FULL, Redis
from avion_media.backends.settings import RemoteConfig
from avion_media.backends.store import ObjectStore
from avion_media.common.clock import now_s
from avion_media.common.errors import Dependency
from avion_media.common.records import UNREADABLE
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import DeletionJournal, JournalReplay
from avion_media.items.item import Items
from avion_media.items.moderation import Moderation
from avion_media.items.private.access import PrivateMedia
from avion_media.media.pipeline import MediaPipeline
from avion_media.process.audit import AuditLog
from avion_media.process.lifecycle import Lifecycle, Readiness
from avion_media.process.replicas import Replica, Replicas
from avion_media.process.settings import ProcessSettings
from guarded_fetch import AddressGuard
from trio_telemetry import NO_TELEMETRY, Telemetry

Drain = Callable[[float], Awaitable[None]]
"""Ends active work, within the given seconds."""
ROLES = ("grpc", "http", "events", "processing", "cache", "delete", "sweeper", "webhooks")
DECODING_ROLES = frozenset({"processing", "cache"})
NEEDED_BY: dict[Dependency, frozenset[str]] = {
    Dependency.REDIS: frozenset(ROLES),
    Dependency.STORE: frozenset(ROLES) - {"events", "webhooks"},
}
"""The dependencies that must respond once before a replica with one of these roles is ready."""
_SAMPLING_S = 4.0  # with its jitter below the age from which the console calls figures old
_LONGEST_SAMPLING_S = 15.0
_SAMPLING_OFTEN = 16  # replicas; beyond them, the fleet as a whole samples no more often


def consumer_name() -> str:
    """Return a name for this process in the consumer groups: readable, and never used twice."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Limiter:
    """The state of a limit, for gauges and the console: slots in use, all slots, and waiting tasks."""

    used: int
    limit: int
    waiting: int = 0

    @property
    def is_bytes(self) -> bool:
        """Whether it limits bytes. All other limits are far below ten million."""
        return self.limit > 10_000_000

    @property
    def is_full(self) -> bool:
        """Whether others have to wait."""
        return self.waiting > 0 or self.used >= self.limit


@dataclass(frozen=True, slots=True)
class FleetStatistics:
    """What one replica has counted for all, by its clock (Unix seconds); 0 before the first time.

    ``outcomes``: see `attempts.outcomes`. ``notices`` are those of `drop_deleted` that wait; ``events_headroom``: see
    `MediaEvents.headroom`. ``stored``: objects and bytes by kind at the last whole sweep; ``swept_at``: its end in Unix
    seconds, or 0. ``memory_use``: see `Redis.memory_use`. ``replicas`` is the number of processes.
    """

    counted_at: float
    queues: Mapping[str, QueueSample] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    notices: QueueStats = field(default_factory=QueueStats)
    events_headroom: int = 0
    stored: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    swept_at: float = 0.0
    memory_use: float = 0.0
    replicas: int = 1

    @property
    def warnings(self) -> list[str]:
        """A warning if Redis is nearly full."""
        if self.memory_use < NEARLY_FULL:
            return []
        return [f"Redis uses {self.memory_use:.0%} of its maxmemory; at 100% it refuses new work"]

    @property
    def stats(self) -> dict[str, QueueStats]:
        """The figures of each queue, and of the notices."""
        return {**{name: each.stats for name, each in self.queues.items()}, DROP_DELETED: self.notices}


@dataclass(slots=True)
class Observed:
    """What the gauges and the console read. The nodes write it while they run."""

    limiters: dict[str, Callable[[], Limiter]] = field(default_factory=dict)
    fleet: FleetStatistics = field(default_factory=lambda: FleetStatistics(0.0))  # as it was a few seconds ago
    warnings: list[str] = field(default_factory=list)  # settings of Redis that can lose data
    held: tuple[str, ...] = ()  # when each waiting media item was held, as in its record, the longest waiting first
    notices_due: tuple[float, ...] = ()  # when each notice must be decided about (Unix seconds), the most urgent first
    active_requests: Callable[[], int] = lambda: 0  # of the origin
    endpoints_file_is_valid: Callable[[], bool] = lambda: True  # of webhooks
    history: History = field(default_factory=History)

    @property
    def sampling_s(self) -> float:
        """How often this process samples what all have in common. In a large fleet each one does it more rarely."""
        return min(_LONGEST_SAMPLING_S, _SAMPLING_S * max(1.0, self.fleet.replicas / _SAMPLING_OFTEN))


def guard_of(remote: RemoteConfig) -> AddressGuard:
    """Return the address guard of the configuration."""
    return AddressGuard(
        deny_hosts=remote.deny_hosts,
        allow_hosts=remote.allow_hosts,
        deny_networks=remote.deny_networks,
        allow_networks=remote.allow_networks,
    )


@dataclass(slots=True)
class Runtime:
    """What the nodes have in common: configuration, shared resources, and observations.

    The store and the sandbox are in slots, because their nodes can restart on their own. Everything that uses Redis
    exists from the start, and stays. For its users, a restart of the Redis node is a short outage: leases survive it,
    and subscriptions are restored.
    """

    # --- configured
    config: ProcessSettings
    roles: frozenset[str] = frozenset(ROLES)
    telemetry: Telemetry = NO_TELEMETRY
    consumer: str = field(default_factory=consumer_name)
    dangers: Sequence[str] = ()  # settings that are legal, but rarely meant
    started_at: float = field(default_factory=lambda: time.time())  # Unix seconds; by the clock of a simulation, too
    # --- shared
    redis: Redis = field(init=False)
    items: Items = field(init=False)
    replay: JournalReplay = field(init=False)
    store: ResourceSlot[ObjectStore] = field(default_factory=lambda: ResourceSlot(Dependency.STORE))
    pipeline: ResourceSlot[MediaPipeline] = field(default_factory=lambda: ResourceSlot(Dependency.SANDBOX))
    private: PrivateMedia = field(init=False)
    moderation: Moderation = field(init=False)
    replicas: Replicas = field(init=False)
    audit: AuditLog = field(init=False)
    drains: dict[str, Drain] = field(default_factory=dict)
    kill: Callable[[str], bool] | None = None  # crashes a node, and returns whether it was up; None where that is off
    stop_requested: trio.Event = field(default_factory=trio.Event)  # set: drain and exit
    # --- observed
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    readiness: Readiness = field(init=False)
    observed: Observed = field(default_factory=Observed)

    def __post_init__(self) -> None:
        settings, state_url = self.config.redis, self.config.status.redis_url
        self.redis = Redis(settings.url, timeout_s=settings.timeout, state_url=state_url)
        self.items = Items(
            self.store,
            self.redis,
            self.config.thumbnails.sizes,
            status_ttl_s=self.config.tasks.accepted_life_s,
            max_events=self.config.events.max_entries,
            cdn=self.config.cdn.purges,
            telemetry=self.telemetry,
        )
        self.replay = JournalReplay(self.items, DeletionJournal(self.store, self.config.delete.delay))
        self.private = PrivateMedia(self.replay, self.config.private.max_ttl)
        self.replicas = Replicas(self.redis)
        about = f"avion-media {version('avion-media')}, roles: {', '.join(sorted(self.roles))}"
        self.audit = AuditLog(self.store, self.consumer, about, self.telemetry)
        self.moderation = Moderation(self.items, self.config)
        self.readiness = Readiness(self.lifecycle, [each for each, roles in NEEDED_BY.items() if roles & self.roles])

    def replica(self) -> Replica:
        """Return this process in the form that others see."""
        return Replica(
            self.consumer,
            socket.gethostname(),
            version("avion-media"),
            tuple(sorted(self.roles)),
            str(self.lifecycle.phase),
            self.readiness.ready,
            self.started_at,
            now_s(),
            UNREADABLE.first(),
        )

    @contextmanager
    def draining(self, name: str, drain: Drain) -> Iterator[None]:
        """Call ``drain`` in the DRAINING phase, if it begins inside the block."""
        self.drains[name] = drain
        try:
            yield
        finally:
            del self.drains[name]

    def report(self) -> dict[str, Any]:
        """Return the report of ``/readyz``.

        An outage of Redis or the store does not make a replica unready: it affects every replica, and UNAVAILABLE with
        RetryInfo helps callers more than a service without endpoints. A dependency that has never responded does make
        it unready: the cause may be a wrong setting of this replica, which must stop a rollout.
        """
        causes = {Dependency.REDIS: self._redis_cause(), Dependency.STORE: self._store_cause()}
        return {
            "ready": self.readiness.ready,
            "ready_changes": self.readiness.ready_changes,
            "phase": str(self.lifecycle.phase),
            "down": sorted(self.readiness.down),
            "dependencies": {str(each): self._state_of(each, cause) for each, cause in causes.items()},
            "reasons": {str(each): cause for each, cause in causes.items() if cause},
            "sandbox": self._sandbox_state(),
            "warnings": [*self.observed.warnings, *self.observed.fleet.warnings],
            "dangers": self.dangers,
            "unreadable": UNREADABLE.first(),
        }

    def _state_of(self, dependency: Dependency, cause: str) -> str:
        if dependency in self.readiness.never_answered:
            return "never_answered"
        return "unavailable" if cause else "up"

    def _redis_cause(self) -> str:
        """Why Redis is unavailable; empty while it is available."""
        available = self.redis.available
        return "" if available.up else available.detail or "it does not answer"

    def _store_cause(self) -> str:
        """Why the store is unavailable; empty while it is available."""
        return self.store.get().state.cause if self.store.is_filled else "not started"

    def _sandbox_state(self) -> dict[str, Any] | None:
        """The protections of the sandbox on this machine; None while there is no sandbox."""
        if not self.pipeline.is_filled:
            return None
        report = self.pipeline.get().sandbox.report
        return {
            "landlock": report.landlock_abi,
            "seccomp": report.seccomp,
            "drops_root": report.drops_root,
            "gaps": list(report.gaps),
        }
