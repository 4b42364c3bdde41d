"""Logs the outages of one dependency: the start, a reminder while it lasts, and the end."""

from __future__ import annotations

import math

import trio

from avion_media.common.telemetry.logs import get_logger

_REMIND_EVERY_S = 60.0  # while nothing changes
_AT_MOST_EVERY_S = 10.0  # for a dependency that flaps, or fails for changing reasons


class OutageLog:
    """Logs ``{dependency}.unavailable`` (a warning) and ``{dependency}.recovered`` under a node's path.

    An outage shorter than the pause since the last warning is not logged, and neither is its end.
    """

    def __init__(self, dependency: str, path: str) -> None:
        self._dependency = dependency
        self._log = get_logger(path=path)
        self._answered = False  # ever
        self._began_at: float | None = None  # of the present outage
        self._detail: str | None = None  # the reason as logged for the present outage; None until it is logged
        self._logged_at = -math.inf

    def unavailable(self, detail: str) -> None:
        """Record that a call got no response, and why."""
        now = trio.current_time()
        if self._began_at is None:
            self._began_at, self._detail = now, None
        pause_s = _REMIND_EVERY_S if detail == self._detail else _AT_MOST_EVERY_S
        if now - self._logged_at >= pause_s:
            self._logged_at, self._detail = now, detail
            for_s = round(now - self._began_at, 3)
            self._log.warning(
                f"{self._dependency}.unavailable", detail=detail, for_s=for_s, never_answered=not self._answered
            )

    def available(self) -> None:
        """Record that a call got a response. This is cheap, because every call does it."""
        self._answered = True
        if self._began_at is None:
            return
        if self._detail is not None:
            self._log.info(f"{self._dependency}.recovered", after_s=round(trio.current_time() - self._began_at, 3))
        self._began_at = None
