"""Whether somebody outside still answers."""

from __future__ import annotations

import time


class Health:
    """Whether an exporter answers, as far as it was tried."""

    _PATIENCE_S = 1.0  # a collector that takes longer for one batch is not waited for at the end

    def __init__(self) -> None:
        self._answers: bool | None = None
        self._trying_since: float | None = None

    def trying(self) -> None:
        """An export begins."""
        self._trying_since = time.monotonic()

    def tried(self, answered: bool) -> None:
        """And has ended."""
        self._answers = answered
        self._trying_since = None

    @property
    def answers(self) -> bool | None:
        """None while nobody knows."""
        since = self._trying_since
        if since is not None and time.monotonic() - since > self._PATIENCE_S:
            return False
        return self._answers
