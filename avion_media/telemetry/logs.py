"""Structured logs on standard error: one line per fact, JSON for machines or coloured text for people."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SIGNATURE = re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")


def _mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Presigned signatures and passwords in URLs never reach a log line."""
    for key, value in event.items():
        if isinstance(value, str) and ("X-Amz-" in value or "://" in value):
            event[key] = _URL_PASSWORD.sub(r"\1***@", _SIGNATURE.sub(r"\1***", value))
    return event


def configure_logging(log_format: str, level: str) -> None:
    """Set up structlog, and route the standard library's warnings through the same line format."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if log_format == "json" else structlog.processors.StackInfoRenderer(),
        _mask_secrets,
    ]
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processor=renderer))
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def get_logger(**context: Any) -> Any:
    """A logger bound to ``context`` (``path`` of the supervised child, ``media_id``, ``task_id``)."""
    return structlog.get_logger(**context)  # lazy: configured when it is first used
