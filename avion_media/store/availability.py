"""Whether the store works, as calls and pings show it."""

from __future__ import annotations

import trio

from avion_media.telemetry import OutageLog


class Availability:
    """What is known now, and since when. Each change is logged once, and wakes who waits for it."""

    def __init__(self) -> None:
        self._answers: bool | None = None  # not known before the first call
        self._cause = "it has not answered yet"
        self._heard_at = float("-inf")
        self._outages = OutageLog("store", "foundation/store")
        self._changed = trio.Event()
        self.reached = False
        """Whether the bucket answered once."""

    @property
    def is_available(self) -> bool:
        """Whether the store works: it answers, and not all objects fail. False until the bucket answered once."""
        return bool(self._answers)

    @property
    def is_unavailable(self) -> bool:
        """Whether it is known not to work."""
        return self._answers is False

    @property
    def cause(self) -> str:
        """Why the store is not available; empty while it is."""
        return "" if self._answers else self._cause

    @property
    def silent_s(self) -> float:
        """Seconds since it answered last."""
        return trio.current_time() - self._heard_at

    async def wait_available(self) -> None:
        """Return once the bucket answers; at once while it does."""
        while not self._answers:
            await self._changed.wait()

    async def wait_changed(self) -> None:
        """Return at the next change."""
        await self._changed.wait()

    def note(self, available: bool, cause: str = "") -> None:
        """Note what a call has shown."""
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
