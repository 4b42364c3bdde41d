"""Whether the store is available, according to calls and pings, and which operations fail.

A single object can fail: a lost placement group, a damaged index entry, a policy, a lost encryption key. If a caller
took this for an outage, all other work would stop. So calls are compared by operation. If three objects fail, and no
other object succeeds with the same operation, that is an outage, even if the store still responds to a ping.
"""

from __future__ import annotations

import trio

from avion_media.common.telemetry import OutageLog

_ENOUGH_KEYS = 3  # two objects of one damaged media item can fail together: the file and a thumbnail
_OLD_S = 60.0  # far longer than the pause of a consumer


class StoreState:
    """The last known state, and since when. Each change is logged once, and wakes waiting tasks."""

    def __init__(self) -> None:
        self._answers: bool | None = None  # not known before the first call
        self._cause = "it has not responded yet"
        self._heard_at = float("-inf")
        self._outages = OutageLog("store", "foundation/store")
        self._changed = trio.Event()
        self._failed: dict[str, set[str]] = {}  # by operation: keys that failed since it last succeeded
        self._failed_at: dict[str, float] = {}
        self.reached = False
        """Whether the bucket has responded once."""

    @property
    def is_available(self) -> bool:
        """Whether the store responds, and not all objects fail. False until the bucket has responded once."""
        return bool(self._answers)

    @property
    def is_unavailable(self) -> bool:
        """Whether the store is known to be unavailable."""
        return self._answers is False

    @property
    def cause(self) -> str:
        """Why the store is not available; empty while it is."""
        return "" if self._answers else self._cause

    @property
    def silent_s(self) -> float:
        """Seconds since the last response."""
        return trio.current_time() - self._heard_at

    async def wait_available(self) -> None:
        """Wait until the bucket responds. Returns at once while it does."""
        while not self._answers:
            await self._changed.wait()

    async def wait_changed(self) -> None:
        """Wait until the store becomes available or unavailable."""
        await self._changed.wait()

    def note_unavailable(self, cause: str) -> None:
        """Record that the store did not respond, or fails for every object."""
        self._cause = cause
        self._outages.unavailable(cause)
        self._note(False)

    def note_answer(self) -> None:
        """Record a response, even if there is no such object. It does not end the outage of a broken operation."""
        if not self.broken:
            self._heard_at = trio.current_time()
            self.reached = True
            self._outages.available()
            self._note(True)

    def note_failure(self, operation: str, key: str) -> bool:
        """Record a failed call. Return whether so many objects failed that the operation itself must be broken."""
        keys = self._failed.setdefault(operation, set())
        if len(keys) < _ENOUGH_KEYS:
            keys.add(key)
        self._failed_at[operation] = trio.current_time()
        return len(keys) >= _ENOUGH_KEYS

    def note_success(self, operation: str) -> None:
        """Record a successful call. A missing object does not prove that others can be read."""
        self._failed.pop(operation, None)

    @property
    def broken(self) -> str:
        """A broken operation, or an empty string."""
        return next((each for each, keys in self._failed.items() if len(keys) >= _ENOUGH_KEYS), "")

    def is_old(self, operation: str) -> bool:
        """Return whether the operation was not tried for so long that its failures prove nothing any more."""
        return trio.current_time() - self._failed_at.get(operation, 0.0) > _OLD_S

    def _note(self, answers: bool) -> None:
        if answers != self._answers:
            self._answers = answers
            self._changed.set()
            self._changed = trio.Event()
