"""Log lines: what they carry, what they never show, and how often an exporter may complain."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from trio_telemetry import Tracer, configure_logging, get_logger, sampler_from
from trio_telemetry.logs import Repeats

SIGNED = "http://store/a?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=0123abcd&x=1"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Whatever a test configures is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_within_a_span_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with Tracer(sampler_from({})).start("a", "internal", parent, "", "", {}) as span:
        get_logger(path="service/grpc").info("something")
        logging.getLogger("somebody.else").warning("something else")
    get_logger().info("outside")
    first, second, third = lines(capsys)
    for each in (first, second):
        assert each["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert each["span_id"] == f"{span.context.span_id:016x}"
    assert first["path"] == "service/grpc"
    assert "trace_id" not in third


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked_wherever_they_are(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(log_format, "info")
    try:
        raise ValueError(f"in a traceback: {SIGNED}")
    except ValueError as error:
        get_logger().error("a", exc_info=error, url=SIGNED, more=[SIGNED, {"redis": "redis://user:hunter2@host/0"}])
    logging.getLogger("somebody.else").warning("refused: %s", SIGNED)
    said = capsys.readouterr().err
    assert "ValueError" in said
    for secret in ("0123abcd", "AKIA", "hunter2"):
        assert secret not in said


@pytest.mark.parametrize("exporter", ["opentelemetry.exporter.otlp.proto.http.trace_exporter", "trio.serve_listeners"])
def test_an_exporter_or_listener_repeats_itself_once_a_minute(monkeypatch: pytest.MonkeyPatch, exporter: str) -> None:
    now = 1000.0
    monkeypatch.setattr("trio_telemetry.logs.time.monotonic", lambda: now)
    repeats = Repeats()

    def passes(name: str, message: str, *arguments: object) -> logging.LogRecord | None:
        record = logging.LogRecord(name, logging.WARNING, "", 0, message, arguments, None)
        return record if repeats.filter(record) else None

    assert passes(exporter, "cannot reach %s, retrying in %s", "a", 1)
    assert not passes(exporter, "cannot reach %s, retrying in %s", "a", 2)
    assert passes(exporter, "something else")
    assert passes("avion_media.backends.store", "cannot reach it")
    assert passes("avion_media.backends.store", "cannot reach it")
    now += 61
    again = passes(exporter, "cannot reach %s, retrying in %s", "a", 4)
    assert again is not None
    assert again.getMessage() == "cannot reach a, retrying in 4 (1 more like it before)"
