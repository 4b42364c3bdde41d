"""Where supervised children leave what they opened (the store, the Redis pool, the workshop) for the others.

A resource's child can crash and be restarted while its users live on: they ask the slot at each use, and hear
`Unavailable` while it is empty. So nobody ever holds a dead pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio

from avion_media.domain.errors import Unavailable

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds at most one open resource called ``what`` (as in `Unavailable.what`)."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._value: T | None = None
        self._filled = trio.Event()

    def get(self) -> T:
        """The resource; `Unavailable` while there is none."""
        if self._value is None:
            raise Unavailable(self._what, "not started")
        return self._value

    async def wait(self) -> T:
        """The resource, as soon as there is one. A cancel leaves nothing behind."""
        while self._value is None:
            await self._filled.wait()
        return self._value

    @contextmanager
    def filled(self, value: T) -> Iterator[T]:
        """Offer ``value`` for the length of the block. Whoever opened it closes it after the block."""
        self._value = value
        self._filled.set()
        try:
            yield value
        finally:
            self._value = None
            self._filled = trio.Event()
