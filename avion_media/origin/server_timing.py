"""``Server-Timing`` (https://www.w3.org/TR/server-timing/): what of an answer's latency was whose."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class ServerTiming:
    """The durations of one request, under names from the code."""

    def __init__(self) -> None:
        self._durations: dict[str, float] = {}

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the time that the block takes, however it ends."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._durations[name] = self._durations.get(name, 0.0) + time.perf_counter() - started

    def header(self) -> str:
        """The header's value, in milliseconds; empty when nothing was measured."""
        return ", ".join(f"{name};dur={duration_s * 1000:.1f}" for name, duration_s in self._durations.items())
