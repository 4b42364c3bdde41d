"""Wakes WatchMediaStatus calls: one subscription and one poll for the whole process, for all watchers."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import trio

from avion_media.common.errors import MediaError, Unavailable
from avion_media.common.tasks import State, Status
from avion_media.common.telemetry import get_logger

_POLL_S = 15.0
_PAGE = 500  # media items polled by one command
_log = get_logger()

Poll = Callable[[Sequence[str]], Awaitable[Mapping[str, Status | None]]]


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

    @contextmanager
    def watching(self, media_id: str) -> Iterator[Notifier]:
        """Yield a notifier for one media item. Enter the block before the first lookup, so that no change is missed."""
        notifier = Notifier()
        self._notifiers.setdefault(media_id, set()).add(notifier)
        try:
            yield notifier
        finally:
            notifiers = self._notifiers[media_id]
            notifiers.discard(notifier)
            if not notifiers:
                del self._notifiers[media_id]

    def notify(self, media_id: str) -> None:
        """Notify the watchers of this media item that it changed."""
        for notifier in self._notifiers.get(media_id, ()):
            notifier.notify()

    def notify_all(self) -> None:
        """Notify all watchers: events may have been missed."""
        for notifiers in self._notifiers.values():
            for notifier in notifiers:
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
