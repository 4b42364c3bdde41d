"""Where users of the foundation find what can be missing: the store and the sandbox.

Their nodes fill the slots while they run. Either can crash and be restarted while its users live on: they query the
slot at each use, and it raises `Unavailable` while it is empty. So no user holds a dead client. Redis needs no slot:
its connections outlive their node, recover by themselves, and raise `Unavailable` until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio

from avion_media.domain.errors import Dependency, Unavailable

T = TypeVar("T")


class ResourceSlot(Generic[T]):
    """Holds at most one open resource, which is ``what`` of its `Unavailable`."""

    def __init__(self, what: Dependency) -> None:
        self._what = what
        self._value: T | None = None
        self._filled = trio.Event()

    def get(self) -> T:
        """The resource; `Unavailable` while there is none."""
        if self._value is None:
            raise Unavailable(self._what, "not started")
        return self._value

    @property
    def is_filled(self) -> bool:
        """Whether there is one."""
        return self._value is not None

    async def wait(self) -> T:
        """The resource, as soon as there is one. A cancel leaves nothing behind."""
        while self._value is None:
            await self._filled.wait()
        return self._value

    def fill(self, value: T) -> None:
        """Offer ``value`` until `empty`. The code that opened it closes it afterwards."""
        self._value = value
        self._filled.set()

    def empty(self) -> None:
        """Offer nothing any more."""
        self._value = None
        self._filled = trio.Event()

    @contextmanager
    def filled(self, value: T) -> Iterator[T]:
        """Offer ``value`` for the length of the block."""
        self.fill(value)
        try:
            yield value
        finally:
            self.empty()
