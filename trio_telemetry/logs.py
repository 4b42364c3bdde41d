"""Structured logs on standard error: one line per event, JSON for machines or coloured text for people.

Each line has the time, the level and the name of the event (``event``), and what its logger is bound to. If known, it
also has ``path`` (see `bind_path`), ``trace_id`` and ``span_id``. Signatures of presigned URLs, and passwords of URLs,
are masked.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
import trio

from trio_telemetry.tracing import current_span

_SIGNATURE = re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")
_SUSPECT = ("amz-", "://")
_REPEATING = ("opentelemetry.", "trio.")  # exporters, and servers that cannot accept connections
_REPEAT_PAUSE_S = 60.0
_BACKOFF_PAUSE_S = 600.0
_REMIND_EVERY_S = 60.0  # of an outage, while nothing changes
_AT_MOST_EVERY_S = 10.0  # for a dependency that flaps, or fails for changing reasons

Event = MutableMapping[str, Any]


def _mask_secrets(_logger: object, _method: str, event: Event) -> Event:
    """Mask presigned signatures and passwords in URLs, also in tracebacks."""
    for key, value in event.items():
        event[key] = _masked(value)
    return event


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        if any(each in value.lower() for each in _SUSPECT):
            return _URL_PASSWORD.sub(r"\1***@", _SIGNATURE.sub(r"\1***", value))
    elif isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    elif isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    return value


def _add_trace(_logger: object, _method: str, event: Event) -> Event:
    """Add the present span, even if its trace is not recorded, so that lines of several processes can be joined."""
    span = current_span()
    if span is not None:
        context = span.context
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


class _Backoffs:
    """Drops a line ``….backed_off`` of a node that logged the same one within ten minutes.

    In an outage every node waits and tries again, for hours. The outage itself is logged once a minute (`OutageLog`).
    """

    def __init__(self) -> None:
        self._logged_at: dict[tuple[object, ...], float] = {}  # by event, node and dependency

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        if event["event"].endswith("backed_off"):
            key, now = (event["event"], event.get("path"), event.get("dependency")), time.monotonic()
            if now - self._logged_at.get(key, -math.inf) < _BACKOFF_PAUSE_S:
                raise structlog.DropEvent
            self._logged_at[key] = now
        return event


class _StandardError:
    """Standard error, which loses a line that it cannot write, because the disk is full, for example.

    The code that logs the line must not fail.
    """

    def write(self, text: str) -> int:
        """Write a line, if possible."""
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
        return len(text)

    def flush(self) -> None:
        """Do nothing, because every line was flushed."""


class Repeats(logging.Filter):
    """Limits equal messages of exporters and listeners to one per minute, without traceback, and counts the others.

    Otherwise an unavailable collector would log a message every second, and a server without a free file ten.
    """

    def __init__(self, pause_s: float = _REPEAT_PAUSE_S) -> None:
        super().__init__()
        self._pause_s = pause_s
        self._last_logged: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # by logger and template; there are few of them

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        if not record.name.startswith(_REPEATING):
            return True
        key = (record.name, str(record.msg))
        logged_at, held_back = self._last_logged.get(key, (float("-inf"), 0))
        now = time.monotonic()
        if now - logged_at < self._pause_s:
            self._last_logged[key] = (logged_at, held_back + 1)
            return False
        self._last_logged[key] = (now, 0)
        record.exc_info = None
        if held_back:
            record.msg, record.args = f"{record.getMessage()} ({held_back} more like it before)", ()
        return True


def configure_logging(log_format: str, level: str) -> None:
    """Set up structlog, and route the standard library's warnings through the same line format."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _Backoffs(),
        _add_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # here, not in the renderer, so that tracebacks are masked as well
        _mask_secrets,
    ]
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _StandardError())),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder({"error"}), *before], processor=renderer
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def silence_logging() -> None:
    """Log nothing. A command reports errors itself, once, and its output may be for programs."""
    structlog.configure(processors=[_drop])


def _drop(_logger: object, _method: str, _event: Event) -> Event:
    raise structlog.DropEvent


def bind_path(path: str) -> None:
    """Let all log lines of the present task, and of those it starts, name the supervised child ``path``."""
    structlog.contextvars.bind_contextvars(path=path)


def get_logger(**context: Any) -> Any:
    """Return a logger bound to ``context`` (``path`` of the supervised child, ``media_id``, ``task_id``)."""
    return structlog.get_logger(**context)  # lazy: configured when it is first used


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
