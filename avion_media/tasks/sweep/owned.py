"""Removes index objects of owners that a crash left: their media item does not exist, or has two of them.

An index object is written before its original, and removed before it. So no original lacks its index object, and only
index objects younger than the last sweep can be left over. One HEAD for each of them is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from avion_media.config import Config
from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing
from avion_media.domain.owners import owner_of
from avion_media.owners import OwnedMedium, read_key
from avion_media.resources import ResourceSlot
from avion_media.store import ListedObject, ObjectStore
from avion_media.tasks.rate_limiter import RateLimiter
from avion_media.tasks.sweep.policy import SweepReason
from avion_media.tasks.sweep.report import Report
from avion_media.tasks.sweep.state import SweepState

_CLOCK_SKEW = timedelta(minutes=5)


class OwnerIndexCheck:
    """Removes wrong index objects. After `Unavailable` the next sweep checks the same objects again."""

    def __init__(
        self,
        store: ResourceSlot[ObjectStore],
        state: SweepState,
        limiter: RateLimiter,
        config: Config,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._state = state
        self._limiter = limiter
        self._sweep = config.sweep
        self._clock = clock

    async def run(self, report: Report, *, dry_run: bool, force: bool) -> None:
        """Check all index objects written since the last sweep and before the margin. Count them in ``report``."""
        until = self._clock() - timedelta(seconds=self._sweep.margin)
        since = await self._state.owners_checked_until()
        seen = wrong = 0
        before: ListedObject | None = None
        await self._limiter.acquire()
        async for page in self._store.get().list(keys.OWNER_PREFIX):
            found = []
            for listed in page:
                owned = read_key(listed.key)
                if owned is None:
                    continue
                seen += 1
                if before is not None and _is_same(before, listed):
                    found.append(
                        min(before, listed, key=lambda each: each.last_modified)
                    )  # the last attempt wrote the right one
                elif (
                    (since is None or listed.last_modified >= since - _CLOCK_SKEW)
                    and listed.last_modified < until
                    and not await self._holds(owned)
                ):
                    found.append(listed)
                before = listed
            wrong += len(found)
            allowed = max(self._sweep.always_allowed, int(self._sweep.max_fraction * seen))
            if wrong > allowed and not force:
                report.warnings.append(
                    f"{wrong} of {seen} index objects of owners have no media item, more than the limit: kept"
                )
                return
            if found and not dry_run:
                await self._store.get().delete([each.key for each in found])
            for _ in found:
                report.count_object(SweepReason.DISOWNED)
            await self._limiter.acquire()
        if not dry_run:
            await self._state.note_owners_checked(until)

    async def _holds(self, owned: OwnedMedium) -> bool:
        await self._limiter.acquire()
        try:
            original = await self._store.get().head(keys.original(owned.media_id))
        except ObjectMissing:
            return False
        return owner_of(original.metadata) == owned.owner


def _is_same(one: ListedObject, other: ListedObject) -> bool:
    return one.key.rpartition(".")[0] == other.key.rpartition(".")[0]
