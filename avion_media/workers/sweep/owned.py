"""Removes index objects of owners that a crash left: their media item does not exist, or has two of them.

An index object is written before its original, and removed before it. So no original lacks its index object, and only
index objects younger than the last sweep can be left over. One HEAD for each of them is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from avion_media.backends.store import ListedObject
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import ObjectMissing
from avion_media.common.media import owner_of
from avion_media.items.item import Items
from avion_media.items.owners import OWNER_ENTRY, OwnedMedium
from avion_media.items.state.sweep_state import SweepState
from avion_media.workers.settings import SweepConfig
from avion_media.workers.sweep.actions import LISTED_PRECISION
from avion_media.workers.sweep.policy import SweepReason
from avion_media.workers.sweep.report import Report
from avion_media.workers.sweep.task_lookup import find_tasks

_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A wrong index object; ``doubled``: its media item has two."""

    listed: ListedObject
    owned: OwnedMedium
    doubled: bool


class OwnerIndexCheck:
    """Removes wrong index objects. After `Unavailable` the next sweep checks the same objects again."""

    def __init__(self, items: Items, limiter: RateLimiter, sweep: SweepConfig, clock: Callable[[], datetime]) -> None:
        self._items = items
        self._limiter = limiter
        self._sweep = sweep
        self._clock = clock

    async def run(self, report: Report, complete_since: datetime, *, dry_run: bool, force: bool) -> None:
        """Check all index objects written since the last sweep and before the margin. Count them in ``report``.

        Those that it skips are checked again by the next sweep. ``complete_since``: see `find_tasks`.
        """
        state = SweepState(self._items.redis)
        until = self._clock() - timedelta(seconds=self._sweep.margin)
        last = (await state.read()).owners_checked_until
        since = datetime.fromtimestamp(last, UTC) - _CLOCK_SKEW if last else None
        checked_until = until
        seen = wrong = 0
        before: ListedObject | None = None
        await self._limiter.acquire()
        async for page in self._items.store.get().list(keys.OWNER_PREFIX):
            found, skipped = [], []
            for listed in page:
                owned = OWNER_ENTRY.read_or_skip(listed.key.encode(), listed.key)
                if owned is None:
                    continue
                seen += 1
                if listed.last_modified >= until:
                    continue
                if before is not None and _is_same(before, listed):
                    # The last attempt wrote the right one.
                    found.append(_Wrong(min(before, listed, key=lambda each: each.last_modified), owned, doubled=True))
                elif since is None or listed.last_modified >= since:
                    is_readable = False
                    with report.skipping_unreadable():
                        if not await self._holds(owned):
                            found.append(_Wrong(listed, owned, doubled=False))
                        is_readable = True
                    if not is_readable:
                        skipped.append(listed)
                before = listed
            wrong += len(found)
            allowed = max(self._sweep.always_allowed, int(self._sweep.max_fraction * seen))
            if wrong > allowed and not force:
                report.warnings.append(
                    f"{wrong} of {seen} index objects of owners have no media item, more than the limit: kept"
                )
                return
            if dry_run:
                removed = found
            else:
                removed = await self._remove(found, report, complete_since)
                skipped += [each.listed for each in found if each not in removed]
                checked_until = min([checked_until, *(each.last_modified for each in skipped)])
            for _ in removed:
                report.count_object(SweepReason.DISOWNED)
            await self._limiter.acquire()
        if not dry_run:
            await state.note_owners_checked(checked_until)

    async def _remove(self, found: list[_Wrong], report: Report, complete_since: datetime) -> list[_Wrong]:
        """Remove those that are still wrong, and return them. A task may be about to publish the media item of one."""
        ids = {str(each.owned.media_id) for each in found}
        tasks = await find_tasks(self._items, uploads=ids, remote=(), deleted=(), complete_since=complete_since)
        removed = []
        for each in found:
            with report.skipping_unreadable():
                if str(each.owned.media_id) not in tasks.making and await self._is_still_wrong(each):
                    await self._items.store.get().delete([each.listed.key])
                    removed.append(each)
                else:
                    report.skipped += 1
        return removed

    async def _is_still_wrong(self, wrong: _Wrong) -> bool:
        for _ in range(2):  # for this check and the removal: nothing may wait between them
            await self._limiter.acquire()
        if not wrong.doubled and await self._holds(wrong.owned):
            return False
        try:  # last: an attempt writes it again before the original
            now = await self._items.store.get().head(wrong.listed.key)
        except ObjectMissing:
            return False
        return now.last_modified - wrong.listed.last_modified < LISTED_PRECISION

    async def _holds(self, owned: OwnedMedium) -> bool:
        await self._limiter.acquire()
        original = await self._items.original(owned.media_id)
        return original is not None and owner_of(original.metadata) == owned.owner


def _is_same(one: ListedObject, other: ListedObject) -> bool:
    return one.key.rpartition(".")[0] == other.key.rpartition(".")[0]
