"""What failed calls prove: that the whole store is unavailable, or only one object.

One object can fail alone: a lost placement group, a damaged index entry, a policy, a key that is not readable any more.
A caller that took this for an outage would stop all other work. So calls are compared by what they do: three objects
that fail, while no other object succeeds at the same operation, are an outage even if the store still answers a ping.
"""

from __future__ import annotations

import trio

_ENOUGH_KEYS = 3  # two objects of one damaged upload can fail together: its file and a thumbnail
_OLD_S = 60.0  # far beyond the pause after which a consumer tries again


class Evidence:
    """The keys that failed, by operation, since that operation last succeeded."""

    def __init__(self) -> None:
        self._failed: dict[str, set[str]] = {}
        self._failed_at: dict[str, float] = {}

    def failed(self, operation: str, key: str) -> None:
        """Note that the call failed."""
        keys = self._failed.setdefault(operation, set())
        if len(keys) < _ENOUGH_KEYS:
            keys.add(key)
        self._failed_at[operation] = trio.current_time()

    def succeeded(self, operation: str) -> None:
        """Note that such a call succeeded. That an object is missing does not prove that others can be read."""
        self._failed.pop(operation, None)

    def is_enough(self, operation: str) -> bool:
        """Return whether so many objects failed that the operation itself must be broken."""
        return len(self._failed.get(operation, ())) >= _ENOUGH_KEYS

    def is_old(self, operation: str) -> bool:
        """Return whether nobody has tried the operation for so long that its failures prove nothing any more."""
        return trio.current_time() - self._failed_at.get(operation, 0.0) > _OLD_S

    @property
    def broken(self) -> str:
        """An operation that is broken, or an empty string."""
        return next((each for each in self._failed if self.is_enough(each)), "")
