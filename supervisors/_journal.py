"""The events of one tree. Each transition numbers its event; the root's task delivers the events in that order.

Each supervisor could deliver its own events, but then two observers would see two orders, and an effect could come
before its cause. So the supervisors only append, and one task logs them and calls the observers.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from supervisors._errors import StartFailed, TooManyRestarts, text_of
from supervisors._policy import RestartWindow
from supervisors._record import Observers, Record
from supervisors._state import Event, EventKind

log = logging.getLogger("supervisors")
events_log = logging.getLogger("supervisors.events")

_ENDS = (EventKind.FAILED, EventKind.STOPPED)


class Journal:
    """The queue of events of one run of a tree. ``wake`` makes the root's task deliver them soon.

    ``windows`` has the restarts that each supervisor counted. They survive its own restart, because a supervisor with
    backoff takes long to give up. If it started to count again, the supervisor above would never see enough failures.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.windows: WeakKeyDictionary[Record, RestartWindow] = WeakKeyDictionary()
        self._wake = wake
        self._numbers = count(1)
        self._queue: deque[tuple[Event, list[Observers]]] = deque()

    def emit(self, record: Record, kind: EventKind, at: float, **details: Any) -> None:
        """Take an event of a node, for its observers and those of all supervisors above it."""
        number, is_raised = next(self._numbers), record.is_awaited
        event = Event(number, at, record.path, kind, record.incarnations, is_raised=is_raised, **details)
        # Those of now, because the node may leave before the delivery.
        observers = [node.observers for node in record.line() if node.observers]
        if observers or events_log.isEnabledFor(event.level):
            self._queue.append((event, observers))
            self._wake()

    def deliver(self) -> None:
        """Log each event and call its observers. Their exceptions are logged; a BaseException is raised."""
        while self._queue:
            event, above = self._queue.popleft()
            _log(event)
            for observers in above:
                for callback in list(observers.values()):
                    try:
                        callback(event)
                    except Exception:
                        log.exception("an observer failed at %s %s", event.path, event.kind)


def _log(event: Event) -> None:
    detail = f" in {event.delay_s:.3g} s" if event.kind is EventKind.BACKOFF else ""
    detail += f" ({event.reason})" if event.reason else ""
    detail += "" if event.error is None else f": {text_of(event.error)}"
    detail += f"\n{event.stack}" if event.stack else ""
    # An error of a child that made its supervisor fail was logged with the child.
    has_traceback = event.kind in _ENDS and not isinstance(event.error, StartFailed | TooManyRestarts)
    error = event.error if has_traceback else None
    events_log.log(event.level, "%s %s%s", event.path, event.kind, detail, exc_info=error)
