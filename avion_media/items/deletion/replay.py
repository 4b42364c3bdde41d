"""Replays the journal if Redis may have lost deletion records.

Here a *bucket* is the set of ids with the same last two characters (`BUCKETS`). Its records are *complete* if the
journal was replayed into the server process that has them, and none of its data has been removed since. The hash
``media_deletions_complete:{XY}`` records that. Another server process (its ``run_id``) means a restart or a failover,
which can lose the last writes; then only entries since shortly before are replayed. Without the hash everything is lost
(FLUSHALL, an empty disk), and the whole journal is replayed.

A lookup reads the record and the completeness of its bucket in one step. So a media item whose deletion record was lost
is never served: the lookup waits, or fails, until the replay is over. The same holds for the revocations of private
media, which the replay restores as well. Each replica also reads which media the journal names, which takes a fraction
of the time of a replay, and serves all other public media meanwhile. A replay that ends early is continued by the next
one.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import trio

from avion_media.backends.redis import Argument, Lock, Reply, Script
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.tasks import DELETE_QUEUE, Status
from avion_media.items.deletion import scripts
from avion_media.items.deletion.journal import DeletionJournal, JournalEntry, key_at
from avion_media.items.deletion.names import NamedMedia
from avion_media.items.deletion.records import BUCKETS, DeletionRecords, Mark, complete_key, completeness_of, removal_id
from avion_media.items.item import Items
from avion_media.items.private.revocations import LOOK_UP, Revocation, Revocations, revocation_key
from avion_media.items.state.status_store import deletion_key, effective_status, status_key
from trio_redis import run_all
from trio_telemetry import get_logger

_LOCK = "media_deletion_replay"  # one replica replays, the others wait
_LOCK_TTL_S = 20.0
_POLL_S = 0.2  # how often a waiting replica checks
_RETRY_S = 1.0  # pause between two attempts while the store or Redis is unavailable
_MARGIN = timedelta(minutes=10)  # if the clock of Redis was set back
_LOOKUP_S = 1.0
_NOTE_S = 2.0  # how often a replay notes how far it got
_WAIT_S = 5.0  # how long a lookup waits until the journal was read; a replay of 10^5 deletions can take longer
_RETRY_AFTER_S = 2.0  # retry delay that clients get
_AT_ONCE = 16  # in a cluster each bucket is a group of its own
_log = get_logger()
T = TypeVar("T")

Epochs = Mapping[str, str]
"""For each key of `complete_key`: the replay that made it complete."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A replay into one bucket. ``complete_until_ms``: its records up to then are complete; 0 if that is unknown."""

    key: str
    complete_until_ms: int
    began: str
    reached: str


class JournalReplay:
    """Keeps the deletion records complete. Every method raises `Unavailable` while the store or Redis is
    unavailable."""

    def __init__(
        self, items: Items, journal: DeletionJournal, *, buckets: Sequence[str] = BUCKETS, wait_s: float = _WAIT_S
    ) -> None:
        self.items = items
        self.records = DeletionRecords(items.redis)
        self.journal = journal
        self.revocations = Revocations(items.store, items.redis)
        self._redis = items.redis.state
        self._wait_s = wait_s
        self._keys = [complete_key(bucket) for bucket in buckets]
        self._replaying = trio.Lock()
        self._requested = trio.Event()
        self._progress = trio.Event()  # the replay has ended, or the media that the journal names are known
        self._named: NamedMedia | None = None

    async def is_deleted(self, media_id: str) -> bool:
        """Return whether a media item is deleted, for code that serves it.

        Raises `Unavailable` after a second without a reply; with `Dependency.DELETIONS` if Redis has lost records,
        the journal names the media item, and `run` has not restored its record within seconds.
        """
        is_deleted, _ = await self._restored(lambda: self._look_up(media_id))
        return is_deleted

    async def status(self, media_id: str) -> Status | None:
        """Return the stored status of a media item; DELETED if it is deleted, None if there is none. In one request.
        Raises as `is_deleted`."""
        is_deleted, written = await self._restored(lambda: self._look_up(media_id, status_key(media_id)))
        return effective_status(media_id, written, is_deleted=is_deleted)

    async def look_up_private(self, media_id: str, tag: str) -> tuple[bool, Revocation]:
        """Return whether a private media item is deleted, and what is revoked of it: for all, and for this tag of an
        audience. In one request. Raises as `is_deleted`."""
        return await self._restored(lambda: self._look_up_private(media_id, tag))

    async def _restored(self, look_up: Callable[[], Awaitable[T | None]]) -> T:
        """Return the result of a lookup, which is None if something that it needs may be lost."""
        progress = self._progress
        found = await look_up()
        if found is not None:
            return found
        with trio.move_on_after(self._wait_s), suppress(Unavailable):
            while found is None:
                self._requested.set()
                await progress.wait()
                progress = self._progress
                found = await look_up()
        if found is None:
            raise Unavailable(Dependency.DELETIONS, "their journal is being replayed", _RETRY_AFTER_S)
        return found

    async def _look_up(self, media_id: str, *status: str) -> tuple[bool, bytes] | None:
        """Return whether a media item is deleted, and what the key of its status has, if it is given; None if the
        deletion record may be lost."""
        keys = (deletion_key(media_id), completeness_of(media_id), *status)
        state, is_complete, began, written = await self._redis.run(scripts.LOOK_UP, keys, within_s=_LOOKUP_S)
        if state or is_complete:
            return state not in (b"", b"undeleted"), written
        if self._named is not None and began.decode() in self._named.replays and media_id.encode() not in self._named:
            return False, written
        return None

    async def _look_up_private(self, media_id: str, tag: str) -> tuple[bool, Revocation] | None:
        keys = (deletion_key(media_id), completeness_of(media_id), revocation_key(media_id))
        state, is_complete, of_all, of_tag = await self._redis.run(LOOK_UP, keys, (tag,), within_s=_LOOKUP_S)
        revocation = Revocation(0, int(of_all), {tag: int(of_tag)})
        return (state not in (b"", b"undeleted"), revocation) if is_complete else None

    async def run(self) -> None:
        """Replay the journal at the start, and whenever a lookup needs it. Never returns. Waits during outages."""
        while True:
            try:
                with trio.CancelScope() as scope:
                    await run_all([partial(self._complete, scope), self._read_names])
            except Unavailable as error:
                _log.warning("deletions.replay_backed_off", dependency=error.dependency, detail=error.detail)
                await trio.sleep(_RETRY_S)
                continue
            self._named = None
            self._note_progress()
            await self._requested.wait()
            self._requested = trio.Event()

    async def _complete(self, scope: trio.CancelScope) -> None:
        await self.ensure_complete()
        scope.cancel()

    def _note_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    async def _read_names(self) -> None:
        """If records may be lost, read which media the journal names. All others can be served during the replay. Never
        returns.

        A deletion that comes meanwhile has its record. If Redis loses it, the replay that `_look_up` finds is another.
        """
        replays = {each.began for each in await self._begin()}
        if replays:
            named = NamedMedia(replays)
            async for media_ids in self.journal.media_ids():
                named.add(media_ids)
            self._named = named
            self._note_progress()
        await trio.sleep_forever()

    async def ensure_complete(self) -> bool:
        """Replay the journal if records may be lost. One replica at a time does it. Return whether a replay was needed.

        After a cancel, restored records stay, and no bucket counts as complete.
        """
        replayed = False
        lock = Lock(self._redis, _LOCK, ttl_s=_LOCK_TTL_S)
        async with self._replaying:
            while not all((await self._epochs(self._keys)).values()):
                replayed = True
                if not await lock.acquire():
                    await trio.sleep(_POLL_S)
                    continue
                async with lock.held():
                    await self._replay()
        return replayed

    async def epochs(self, media_ids: Iterable[str]) -> Epochs:
        """Make the records complete. Return what `is_unchanged` compares for these media items."""
        while True:
            epochs = await self._epochs(await self._keys_of(media_ids))
            if all(epochs.values()):
                return epochs
            await self.ensure_complete()

    async def is_unchanged(self, epochs: Epochs) -> bool:
        """Return whether no data was lost since `epochs`. Otherwise a replay may have missed entries written since."""
        return await self._epochs(list(epochs)) == epochs

    async def with_complete_records(self, media_ids: Collection[str], work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``work``, which needs the records of these media items, or writes them. It is done again
        if data was lost meanwhile."""
        while True:
            epochs = await self.epochs(media_ids)
            result = await work()
            if await self.is_unchanged(epochs):
                return result

    async def schedule_removals(self, marks: Sequence[Mark]) -> None:
        """Queue the removals of these deletions for their due time. Repeating it adds nothing."""
        await self.items.queues[DELETE_QUEUE].delay(
            [
                ({"media_id": each.media_id}, removal_id(each.media_id, each.generation), each.due_ms / 1000)
                for each in marks
            ]
        )

    async def note_time(self) -> None:
        """Record that the records are complete now: see ``as_of`` in `_replay`. Once a minute is enough.

        The journal is compacted, and entries that a replay set aside are restored if this version can read them.
        """
        await self._run_on_all(scripts.NOTE_TIME)
        await self.journal.compact()
        async for entry in self.journal.set_aside():
            await self._restore([entry])

    async def prune(self) -> int:
        """Compact the journal, and remove what is too old to matter. Return how many objects that was."""
        await self.journal.compact()
        return await self.journal.prune(self._unfinished)

    async def _unfinished(self, marks: Sequence[Mark]) -> set[Mark]:
        media_ids = [each.media_id for each in marks]  # a record that was lost looks like a removal that has ended
        return await self.with_complete_records(media_ids, partial(self.records.unfinished, marks))

    async def _replay(self) -> None:
        begun = await self._begin()
        if not begun:
            return
        lost = min(each.complete_until_ms for each in begun)
        lost_at = datetime.fromtimestamp(lost / 1000, UTC) - _MARGIN if lost else None
        since = "" if lost_at is None else key_at(lost_at)
        after = max(since, min(each.reached for each in begun))  # where another replica's attempt has ended
        restored, noted_at = 0, trio.current_time()
        async for reached, entries in self.journal.entries(after):
            restored += await self._restore(entries)
            if trio.current_time() >= noted_at + _NOTE_S:
                await self._note_reached(begun, reached)
                noted_at = trio.current_time()
        await self.revocations.restore(lost_at)
        await self._note_reached(begun, "")
        _log.info("deletions.replayed", after=after, media=restored)

    async def _begin(self) -> list[_Begun]:
        """Begin a replay for each bucket whose records may be lost, or continue the one that was begun."""
        found = await self._run_on_all(scripts.BEGIN_REPLAY, (secrets.token_hex(8),))
        begun = {key: [each.decode() for each in reply] for key, reply in found.items()}
        return [_Begun(key, int(until), began, reached) for key, (until, began, reached) in begun.items() if until]

    async def _note_reached(self, begun: Sequence[_Begun], reached: str) -> None:
        """Record how far the replay got; without ``reached``: that it has ended."""
        replays = {each.key: each.began for each in begun}
        await self._redis.run_in_groups(
            scripts.END_REPLAY, list(replays), (reached,), of_each=lambda key: (replays[key],), at_once=_AT_ONCE
        )

    async def _restore(self, entries: Sequence[JournalEntry]) -> int:
        current = await self.records.restore_marks(mark for entry in entries for mark in entry.marks)
        await self.schedule_removals(current)
        for entry in entries:
            if entry.issued is not None:
                await self.records.restore_undeletes(entry.undeleted, entry.issued)
        return len(current)

    async def _keys_of(self, media_ids: Iterable[str]) -> list[str]:
        """Return the completeness keys of their buckets. A single server loses all or nothing, so one key is enough."""
        keys = list(dict.fromkeys(completeness_of(media_id) for media_id in media_ids))
        return keys if await self._redis.is_cluster() else keys[:1]

    async def _epochs(self, keys: Sequence[str]) -> dict[str, str]:
        found = await self._redis.run_in_groups(scripts.READ_COMPLETENESS, keys, at_once=_AT_ONCE)
        return {key: replay.decode() for key, replay in found.items()}

    async def _run_on_all(self, script: Script, args: Sequence[Argument] = ()) -> dict[str, Reply]:
        return await self._redis.run_in_groups(script, self._keys, args, at_once=_AT_ONCE)
