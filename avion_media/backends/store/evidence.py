"""Decides whether failed calls mean that the whole store is unavailable, or only one object.

A single object can fail: a lost placement group, a damaged index entry, a policy, a lost encryption key. If a caller
took this for an outage, all other work would stop. So calls are compared by operation. If three objects fail, and no
other object succeeds with the same operation, that is an outage, even if the store still responds to a ping.
"""

from __future__ import annotations

import trio

_ENOUGH_KEYS = 3  # two objects of one damaged media item can fail together: the file and a thumbnail
_OLD_S = 60.0  # far longer than the pause of a consumer


class Evidence:
    """The keys that failed, by operation, since that operation last succeeded."""

    def __init__(self) -> None:
        self._failed: dict[str, set[str]] = {}
        self._failed_at: dict[str, float] = {}

    def failed(self, operation: str, key: str) -> None:
        """Record a failed call."""
        keys = self._failed.setdefault(operation, set())
        if len(keys) < _ENOUGH_KEYS:
            keys.add(key)
        self._failed_at[operation] = trio.current_time()

    def succeeded(self, operation: str) -> None:
        """Record a successful call. A missing object does not prove that others can be read."""
        self._failed.pop(operation, None)

    def is_enough(self, operation: str) -> bool:
        """Return whether so many objects failed that the operation itself must be broken."""
        return len(self._failed.get(operation, ())) >= _ENOUGH_KEYS

    def is_old(self, operation: str) -> bool:
        """Return whether the operation was not tried for so long that its failures prove nothing any more."""
        return trio.current_time() - self._failed_at.get(operation, 0.0) > _OLD_S

    @property
    def broken(self) -> str:
        """A broken operation, or an empty string."""
        return next((each for each in self._failed if self.is_enough(each)), "")
