"""Waking WatchMediaStatus calls: one subscription and one look of the whole process, fanned out to the watchers."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import trio

from avion_media.domain.errors import MediaError, Unavailable
from avion_media.domain.tasks import State, Status
from avion_media.telemetry import get_logger

_LOOK_S = 15.0
_PAGE = 500  # media looked at by one command
_log = get_logger(path="service/grpc")

Look = Callable[[Sequence[str]], Awaitable[Mapping[str, Status | None]]]


class Bell:
    """What wakes one watcher."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._told: Status | None = None

    def ring(self) -> None:
        """Wake the watcher now, or at its next wait."""
        self._event.set()

    def compare(self, written: Status | None) -> None:
        """Ring, if what is written of the medium is not what its watcher knows. Of a pending upload nothing is."""
        if self._told is not None and written != (None if self._told.state is State.PENDING_UPLOAD else self._told):
            self.ring()

    async def wait(self, told: Status, at_most_s: float = math.inf) -> None:
        """Until rung, or for so long; ``told`` is what the watcher knows. A cancel leaves the bell as it is."""
        self._told = told
        with trio.move_on_after(at_most_s):
            await self._event.wait()
        self._event = trio.Event()


class Watchers:
    """The bells of all watchers. Rings never wait and hold nothing: memory is bounded by the open calls."""

    def __init__(self) -> None:
        self._bells: dict[str, set[Bell]] = {}

    @contextmanager
    def watching(self, media_id: str) -> Iterator[Bell]:
        """A bell for one medium, for the length of the block. Enter it before the first look: then none is missed."""
        bell = Bell()
        self._bells.setdefault(media_id, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells[media_id]
            bells.discard(bell)
            if not bells:
                del self._bells[media_id]

    def ring(self, media_id: str) -> None:
        """Something about this medium changed."""
        for bell in self._bells.get(media_id, ()):
            bell.ring()

    def ring_all(self) -> None:
        """Events may have been missed: everybody looks again."""
        for bells in self._bells.values():
            for bell in bells:
                bell.ring()

    async def keep_looking(self, look: Look) -> None:
        """Ring for what nobody says: a status that expired, a message that was lost within Redis. Never returns.

        ``look`` tells what is written of each of the media given, or raises a `MediaError`: then later.
        """
        while True:
            await trio.sleep(_LOOK_S)
            try:
                await self._look(look)
            except Unavailable:
                continue
            except MediaError as error:  # a Redis that refuses this one command must not cost us all calls
                _log.warning("watch.look_failed", error=str(error))

    async def _look(self, look: Look) -> None:
        watched = list(self._bells)
        for start in range(0, len(watched), _PAGE):
            written = await look(watched[start : start + _PAGE])
            for media_id, status in written.items():
                for bell in self._bells.get(media_id, ()):
                    bell.compare(status)
