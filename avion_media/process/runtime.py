"""What the children of the tree share: configuration, resources, phase, telemetry. Built once per process."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import trio

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.history import History, QueueSample
from avion_media.backends.redis import Redis
from avion_media.backends.remote import AddressGuard
from avion_media.backends.settings import RemoteConfig
from avion_media.backends.store import ObjectStore
from avion_media.common.clock import now_s
from avion_media.common.errors import RETRYABLE, SENTENCES, Dependency
from avion_media.common.formats import FORMATS
from avion_media.common.parts import MULTIPART_THRESHOLD_BYTES
from avion_media.common.records import UNREADABLE
from avion_media.common.resources import ResourceSlot
from avion_media.common.settings import format_size
from avion_media.common.tasks import DROP_DELETED
from avion_media.common.telemetry import NO_TELEMETRY, Telemetry
from avion_media.items.deletion import DeletionJournal, JournalReplay
from avion_media.items.item import Items
from avion_media.items.moderation import Moderation
from avion_media.items.private.access import PrivateMedia
from avion_media.media.pipeline import MediaPipeline
from avion_media.media.settings import UploadConfig
from avion_media.process.lifecycle import Lifecycle, Readiness
from avion_media.process.replicas import Replica, Replicas
from avion_media.process.settings import ProcessSettings
from mediascrub import PictureBounds

Drain = Callable[[float], Awaitable[None]]
"""Ends active work, within the given seconds."""
ROLES = ("grpc", "http", "events", "processing", "cache", "delete", "sweeper", "webhooks")
DECODING_ROLES = frozenset({"processing", "cache"})
_PICTURE_BOUNDS = PictureBounds()
NEEDED_BY: dict[Dependency, frozenset[str]] = {
    Dependency.REDIS: frozenset(ROLES),
    Dependency.STORE: frozenset(ROLES) - {"events", "webhooks"},
}
"""The dependencies that must respond once before a replica with one of these roles is ready."""


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

    ``notices`` are those of `drop_deleted` that wait; ``events_headroom``: see `MediaEvents.headroom`. ``stored``:
    objects and bytes by kind at the last whole sweep; ``swept_at``: its end in Unix seconds, or 0. ``memory_use``:
    see `Redis.memory_use`.
    """

    counted_at: float
    queues: Mapping[str, QueueSample] = field(default_factory=dict)
    notices: QueueStats = field(default_factory=QueueStats)
    events_headroom: int = 0
    stored: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    swept_at: float = 0.0
    memory_use: float = 0.0

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
    active_requests: Callable[[], int] = lambda: 0  # of the origin
    endpoints_file_is_valid: Callable[[], bool] = lambda: True  # of webhooks
    history: History = field(default_factory=History)


@dataclass(frozen=True, slots=True)
class FailureReason:
    """One row of `SENTENCES`, with the limits filled in."""

    code: str
    sentence: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What clients may upload here, and what they get: for GetCapabilities and for ``/capabilities`` at the origin.

    The fields are those of the contract's message. Durations are in seconds.
    """

    max_image_bytes: int
    max_video_bytes: int
    max_audio_bytes: int
    max_pixels: int
    max_duration: float
    max_audio_duration: float
    content_types: tuple[str, ...]
    thumbnail_sizes: dict[str, int]
    multipart: bool
    multipart_threshold: int
    reasons: tuple[FailureReason, ...]
    max_aspect: int
    max_frames: int
    private_media: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return asdict(self)


def capabilities_of(config: ProcessSettings, *, multipart: bool) -> Capabilities:
    """Return what this configuration allows. ``multipart``: the object store can be trusted with uploads in parts."""
    enabled = config.enabled_formats()
    upload = config.upload
    return Capabilities(
        max_image_bytes=upload.max_image_bytes,
        max_video_bytes=upload.max_video_bytes,
        max_audio_bytes=upload.max_audio_bytes,
        max_pixels=upload.max_pixels,
        max_duration=upload.max_duration,
        max_audio_duration=upload.max_audio_duration,
        content_types=tuple(
            content_type
            for fmt in FORMATS
            if fmt.name in enabled
            for content_type in (fmt.content_type, *fmt.other_content_types)
        ),
        thumbnail_sizes={size.name: size.longest_edge for size in config.thumbnails.sizes},
        multipart=multipart,
        multipart_threshold=MULTIPART_THRESHOLD_BYTES,
        reasons=_reasons_for(upload),
        max_aspect=int(_PICTURE_BOUNDS.max_aspect),
        max_frames=_PICTURE_BOUNDS.max_frames,
    )


def _reasons_for(upload: UploadConfig) -> tuple[FailureReason, ...]:
    limits = {
        "max_image_bytes": format_size(upload.max_image_bytes),
        "max_video_bytes": format_size(upload.max_video_bytes),
        "max_audio_bytes": format_size(upload.max_audio_bytes),
        "max_audio_duration": _duration(upload.max_audio_duration),
        "max_pixels": f"{upload.max_pixels:,}",
        "max_duration": _duration(upload.max_duration),
        "max_side": f"{_PICTURE_BOUNDS.max_side:,}",
        "max_aspect": f"{_PICTURE_BOUNDS.max_aspect:,.0f}",
        "max_frames": f"{_PICTURE_BOUNDS.max_frames:,}",
    }
    return tuple(
        FailureReason(reason.value, sentence.format(**limits), reason in RETRYABLE)
        for reason, sentence in SENTENCES.items()
    )


def _duration(seconds: float) -> str:
    """Return a duration in the largest unit that divides it."""
    for unit, unit_s in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:,.0f} seconds"


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
    started_at: float = field(default_factory=time.time)  # Unix seconds
    # --- shared
    redis: Redis = field(init=False)
    items: Items = field(init=False)
    replay: JournalReplay = field(init=False)
    store: ResourceSlot[ObjectStore] = field(default_factory=lambda: ResourceSlot(Dependency.STORE))
    pipeline: ResourceSlot[MediaPipeline] = field(default_factory=lambda: ResourceSlot(Dependency.SANDBOX))
    private: PrivateMedia = field(init=False)
    moderation: Moderation = field(init=False)
    replicas: Replicas = field(init=False)
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

    def capabilities(self) -> Capabilities:
        """Return what clients may upload, as far as known now."""
        return capabilities_of(self.config, multipart=self.store.is_filled and self.store.get().multipart.allowed)

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
            "warnings": self.observed.warnings,
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
        return self.store.get().cause if self.store.is_filled else "not started"

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
