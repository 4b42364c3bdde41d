"""Resource slots: where code finds the object store and the sandbox, which can be missing.

Their nodes fill the slots while they run. Each can crash and restart while its users live on. Users read the slot at
each use, and get `Unavailable` while it is empty. So no user keeps a dead client. Redis needs no slot: its connections
outlive their node, recover by themselves, and raise `Unavailable` until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import trio

from avion_media.common.errors import Dependency, Unavailable

T = TypeVar("T")


class ResourceSlot(Generic[T]):
    """Holds at most one open resource. ``what`` is the dependency of its `Unavailable`."""

    def __init__(self, what: Dependency) -> None:
        self._what = what
        self._value: T | None = None
        self._filled = trio.Event()

    def get(self) -> T:
        """Return the resource, or raise `Unavailable`."""
        if self._value is None:
            raise Unavailable(self._what, "not started")
        return self._value

    @property
    def is_filled(self) -> bool:
        """Whether there is a resource."""
        return self._value is not None

    async def wait(self) -> T:
        """Wait for the resource, and return it. A cancel has no effect."""
        while self._value is None:
            await self._filled.wait()
        return self._value

    def fill(self, value: T) -> None:
        """Offer ``value`` until `empty`. The code that opened it also closes it."""
        self._value = value
        self._filled.set()

    def empty(self) -> None:
        """Stop offering the value."""
        self._value = None
        self._filled = trio.Event()

    @contextmanager
    def filled(self, value: T) -> Iterator[T]:
        """Offer ``value`` inside the block."""
        self.fill(value)
        try:
            yield value
        finally:
            self.empty()


class Deletions(Protocol):
    """Answers whether media are deleted."""

    async def is_deleted(self, media_id: str) -> bool:
        """Return whether the media item is deleted.

        Raises `Unavailable` soon if Redis does not answer; of `Dependency.DELETIONS` if it has lost deletions.
        """
