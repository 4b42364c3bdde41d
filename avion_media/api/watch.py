"""Waking WatchMediaStatus calls: one subscription of the process, fanned out to the watchers of each medium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

# A watcher looks by itself this often, should an event be lost while Redis was away.
_LOOK_AGAIN_S = 15.0


class Woken:
    """One watcher's bell."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wake the watcher now, or at its next wait."""
        self._event.set()

    async def wait(self) -> None:
        """Until rung, or until it is time to look anyway. A cancel leaves the bell as it is."""
        with trio.move_on_after(_LOOK_AGAIN_S):
            await self._event.wait()
        self._event = trio.Event()


class Watchers:
    """The bells of all watchers. Rings never wait and hold nothing: memory is bounded by the open calls."""

    def __init__(self) -> None:
        self._bells: dict[str, set[Woken]] = {}

    @contextmanager
    def watching(self, media_id: str) -> Iterator[Woken]:
        """A bell for one medium, for the length of the block. Enter it before the first look: then none is missed."""
        bell = Woken()
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
