"""The parts of moderation that one process shares."""

from __future__ import annotations

from avion_media.backends.redis import Redis
from avion_media.backends.store import ObjectStore
from avion_media.common.errors import Dependency
from avion_media.common.protocols import PurgeRequests
from avion_media.common.resources import ResourceSlot
from avion_media.common.telemetry import NO_TELEMETRY, Telemetry
from avion_media.items.moderation.blocking import Blocking, Watched
from avion_media.items.moderation.changes import Changes
from avion_media.items.moderation.evidence import Evidence
from avion_media.items.moderation.hook import Hook
from avion_media.items.moderation.likeness import Likeness
from avion_media.items.moderation.lists import Blocklists
from avion_media.items.moderation.records import ModerationRecords
from avion_media.items.moderation.reviews import Reviews
from avion_media.items.moderation.screening import Screening
from avion_media.items.moderation.status import ModerationStatus
from avion_media.items.settings import ItemSettings
from avion_media.items.state import MediaEvents


class Moderation:
    """All parts. ``blocking`` is filled while the node `moderation` runs."""

    def __init__(
        self, store: ResourceSlot[ObjectStore], redis: Redis, config: ItemSettings, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._store = store
        self._redis = redis
        self._config = config
        self._telemetry = telemetry
        self.watched = Watched()
        self.status = ModerationStatus(store, self.watched)
        self.likeness = Likeness(require=config.sandbox.require)
        self.lists = Blocklists(store, Changes(redis))
        self._events = MediaEvents(redis, config.events.max_entries)
        self.reviews = Reviews(store, redis, self._events, status_ttl_s=config.tasks.accepted_life_s)
        self.records = ModerationRecords(store)
        self.evidence = Evidence(store)
        self.blocking: ResourceSlot[Blocking] = ResourceSlot(Dependency.STORE)

    def make_blocking(self, purges: PurgeRequests) -> Blocking:
        """Return what blocks media, with the purges of the process."""
        return Blocking(
            self._store,
            self._redis,
            purges,
            self._events,
            self.watched,
            self.likeness.of,
            self._config.thumbnails.sizes,
            self._config.tasks.claim_after,
        )

    def screening(self) -> Screening:
        """Make the checks before publication."""
        return Screening(
            self._store,
            self.lists,
            self.blocking,
            self.reviews,
            self.likeness.of,
            Hook(self._config.moderation, self._redis, self._telemetry),
            self._config.moderation,
            self._config.thumbnails,
        )
