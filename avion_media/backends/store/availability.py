"""Whether the store is available, according to calls and pings."""

from __future__ import annotations

import trio

from avion_media.common.telemetry import OutageLog


class Availability:
    """The last known state, and since when. Each change is logged once, and wakes waiting tasks."""

    def __init__(self) -> None:
        self._answers: bool | None = None  # not known before the first call
        self._cause = "it has not responded yet"
        self._heard_at = float("-inf")
        self._outages = OutageLog("store", "foundation/store")
        self._changed = trio.Event()
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

    def note(self, available: bool, cause: str = "") -> None:
        """Record the result of a call. ``cause`` is why the store is unavailable."""
        if available:
            self._heard_at = trio.current_time()
            self.reached = True
            self._outages.available()
        else:
            self._cause = cause
            self._outages.unavailable(cause)
        if available != self._answers:
            self._answers = available
            self._changed.set()
            self._changed = trio.Event()
