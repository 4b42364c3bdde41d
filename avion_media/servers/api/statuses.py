"""Finds the status of a media item: first in the status store, then in the object store, which is the source of truth.

WatchMediaStatus calls are woken by one subscription and one poll for the whole process, for all watchers.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import trio

from avion_media.backends.store import stored_facts
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.errors import MediaError, Unavailable
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.tasks import State, Status
from avion_media.items.deletion import JournalReplay
from avion_media.items.moderation import ModerationStatus
from avion_media.items.state.status_store import status_channel, status_channels
from avion_media.media.settings import UploadConfig
from trio_telemetry import get_logger

_CLOCK_SKEW = timedelta(minutes=5)
_A_MOMENT = timedelta(milliseconds=10)
_POLL_S = 15.0
_PAGE = 500  # media items polled by one command
_log = get_logger()

Poll = Callable[[Sequence[str]], Awaitable[Mapping[str, Status | None]]]


class UnknownMedium(MediaError):
    """The media item is unknown."""


class StatusResolver:
    """Resolves ids to statuses. Raises `Unavailable` while the store or Redis is unavailable."""

    def __init__(self, replay: JournalReplay, moderation: ModerationStatus, upload: UploadConfig) -> None:
        self._replay = replay
        self._moderation = moderation
        self._url_ttl = timedelta(seconds=upload.url_ttl)
        self._multipart_ttl = timedelta(seconds=upload.multipart_ttl)

    async def resolve(self, any_id: AnyId, now: datetime | None = None) -> Status:
        """Return the status of one media item, or raise `UnknownMedium`."""
        known = await self._replay.status(str(any_id))
        if known is not None:
            return known
        items = self._replay.items
        info = await items.original(any_id)
        if info is not None and not await self._moderation.is_blocked_despite_objects(str(any_id)):
            return self._replay.items.ready(any_id, stored_facts(info))
        moderated = await self._moderation.status(any_id)
        if moderated is not None:
            return moderated
        if isinstance(any_id, MediaId) and (
            self.url_lives(any_id, now)
            or await items.upload(any_id) is not None
            or await self._is_uploaded_in_parts(any_id, now)
        ):
            return Status(str(any_id), State.PENDING_UPLOAD)
        raise UnknownMedium(str(any_id))

    def url_lives(self, media_id: MediaId, now: datetime | None = None) -> bool:
        """Return whether the upload URL of this id is still valid."""
        return self._lives(media_id, self._url_ttl, now)

    def _lives(self, media_id: MediaId, ttl: timedelta, now: datetime | None) -> bool:
        now = now or utc_now()
        return media_id.created - _CLOCK_SKEW <= now <= media_id.created + ttl

    async def _is_uploaded_in_parts(self, media_id: MediaId, now: datetime | None) -> bool:
        """Return whether there is an upload in parts that was neither completed nor aborted."""
        if not self._lives(media_id, self._multipart_ttl, now):
            return False
        return await self._replay.items.store.get().multipart.is_unfinished(keys.incoming(media_id))

    def valid_for_s(self, any_id: AnyId, status: Status, now: datetime | None = None) -> float:
        """Return for how many seconds a status is valid without another event. A pending upload ends with its URL, or
        later, when the sweep removes it; no event announces that."""
        if status.state is not State.PENDING_UPLOAD or not isinstance(any_id, MediaId):
            return math.inf
        left = any_id.created + self._url_ttl - (now or utc_now())
        return (left + _A_MOMENT if left > timedelta() else self._url_ttl).total_seconds()


class Notifier:
    """Wakes one watcher."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._known: Status | None = None

    def notify(self) -> None:
        """Wake the watcher now, or at its next wait."""
        self._event.set()

    def compare(self, written: Status | None) -> None:
        """Notify the watcher if its status differs from the stored one. A pending upload has no stored status."""
        if self._known is not None and written != (None if self._known.state is State.PENDING_UPLOAD else self._known):
            self.notify()

    async def wait(self, known: Status, at_most_s: float = math.inf) -> None:
        """Wait until notified, but at most ``at_most_s``. ``known`` is the status that the watcher has. A cancel has no
        effect."""
        self._known = known
        with trio.move_on_after(at_most_s):
            await self._event.wait()
        self._event = trio.Event()


class Watchers:
    """The notifiers of all watchers. Notifying never waits and stores nothing, so open calls limit the memory."""

    def __init__(self) -> None:
        self._notifiers: dict[str, set[Notifier]] = {}
        self.channels = status_channels(self.notify)
        """The channels of the watched media items."""

    @contextmanager
    def watching(self, media_id: str) -> Iterator[Notifier]:
        """Yield a notifier for one media item. Enter the block before the first lookup, so that no change is missed."""
        notifier = Notifier()
        self._notifiers.setdefault(media_id, set()).add(notifier)
        self.channels.add(status_channel(media_id))
        try:
            yield notifier
        finally:
            notifiers = self._notifiers[media_id]
            notifiers.discard(notifier)
            if not notifiers:
                del self._notifiers[media_id]
                self.channels.discard(status_channel(media_id))

    def notify(self, media_id: str) -> None:
        """Notify the watchers of this media item that it changed."""
        for notifier in self._notifiers.get(media_id, ()):
            notifier.notify()

    async def keep_polling(self, poll: Poll) -> None:
        """Poll for changes without a message: an expired status, or a message that Redis lost. Never returns.

        ``poll`` returns the stored status of each media item. If it raises a `MediaError`, it is called again later.
        """
        while True:
            await trio.sleep(_POLL_S)
            try:
                await self._poll_once(poll)
            except Unavailable:
                continue
            except MediaError as error:  # a Redis that refuses this command must not end all calls
                _log.warning("watch.poll_failed", error=str(error))

    async def _poll_once(self, poll: Poll) -> None:
        watched = list(self._notifiers)
        for start in range(0, len(watched), _PAGE):
            written = await poll(watched[start : start + _PAGE])
            for media_id, status in written.items():
                for notifier in self._notifiers.get(media_id, ()):
                    notifier.compare(status)
