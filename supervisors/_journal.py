"""The events of one tree. Each transition numbers its event; the root's task delivers the events in that order.

Each supervisor could deliver its own events, but then two observers would see two orders, and an effect could come
before its cause. So the supervisors only append, and one task calls the observers.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

from supervisors._errors import text_of
from supervisors._policy import RestartWindow
from supervisors._state import Event, EventKind

log = logging.getLogger("supervisors")

Observers = dict[object, Callable[[Event], object]]

_LEVELS = {
    EventKind.FAILED: logging.WARNING,
    EventKind.BACKOFF: logging.WARNING,
    EventKind.STUCK: logging.ERROR,
    EventKind.ESCALATED: logging.ERROR,
}


class Journal:
    """The queue of events of one run of a tree. ``wake`` makes the root's task deliver them soon.

    ``windows`` has the restarts that each supervisor counted. They survive its own restart, because a supervisor with
    backoff takes long to give up. If it started to count again, the supervisor above would never see enough failures.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.windows: WeakKeyDictionary[object, RestartWindow] = WeakKeyDictionary()
        self._wake = wake
        self._seq = 0
        self._queue: deque[tuple[Event, list[Observers]]] = deque()

    def emit(
        self,
        observers: list[Observers],
        path: str,
        kind: EventKind,
        incarnation: int,
        at: float,
        error: BaseException | None,
        reason: str | None,
        delay_s: float,
    ) -> None:
        """Number an event. ``observers`` are those of the node and of all supervisors above it."""
        self._seq += 1
        self._queue.append((Event(self._seq, at, path, kind, incarnation, error, reason, delay_s), observers))
        self._wake()

    def deliver(self) -> None:
        """Call the observers with each event. Their exceptions are logged; a BaseException is raised."""
        while self._queue:
            event, above = self._queue.popleft()
            observed = False
            for observers in above:
                for callback in list(observers.values()):
                    observed = True
                    try:
                        callback(event)
                    except Exception:
                        log.exception("an observer failed at %s %s", event.path, event.kind)
            if not observed:
                _log(event)


def _log(event: Event) -> None:
    level = _LEVELS.get(event.kind)
    if level is not None:
        detail = f" in {event.delay_s:.3g} s" if event.kind is EventKind.BACKOFF else ""
        cause = "" if event.error is None else f": {text_of(event.error)}"
        log.log(level, "%s %s%s%s", event.path, event.kind, detail, cause)
