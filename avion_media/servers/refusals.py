"""A log of refused requests that no flood of them fills: for an operator who wonders."""

from __future__ import annotations

import math
from typing import Any, Final

import trio

from trio_telemetry import get_logger

_EVERY_S: Final = 10.0


class RefusalLog:
    """Logs at most one refusal in ten seconds under this event, with the number of those since the last line."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._log = get_logger()
        self._refused = 0
        self._logged_at = -math.inf

    def refused(self, **facts: Any) -> None:
        """Count a refusal, and log it unless a line was written just now."""
        self._refused += 1
        now = trio.current_time()
        if now - self._logged_at >= _EVERY_S:
            self._log.warning(self._event, **facts, since_last_line=self._refused)
            self._refused, self._logged_at = 0, now
