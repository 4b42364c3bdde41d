"""What is reported of each sandboxed process: a span, its time and memory, whether it had to be killed."""

from __future__ import annotations

from collections.abc import Callable

from avion_media.common.telemetry import Telemetry, instruments
from avion_media.media.sandbox import JobReport, Outcome

SLOTS = "sandbox.slots"
_KILLED = frozenset({Outcome.LIMIT, Outcome.CRASHED, Outcome.KILLED})
_FAULTS = _KILLED | {Outcome.FAILED}


def sandbox_observer(telemetry: Telemetry) -> Callable[[JobReport], None]:
    """For `open_sandbox`: called in the task that waited for the process, which gives the span its place."""

    def observe(report: JobReport) -> None:
        job, outcome, usage = report.name.rpartition(":")[2], report.outcome, report.usage
        telemetry.record_child_span(
            f"sandbox {job}",
            usage.wall_s,
            error=str(outcome) if outcome in _FAULTS else "",
            avion__sandbox__job=job,
            avion__sandbox__outcome=str(outcome),
            avion__sandbox__cpu_time=usage.cpu_s,
            avion__sandbox__memory_peak=usage.peak_rss_bytes,
        )
        telemetry.record(instruments.SANDBOX_DURATION, usage.wall_s, avion__sandbox__job=job, outcome=str(outcome))
        telemetry.record(instruments.SANDBOX_CPU, usage.cpu_s, avion__sandbox__job=job, outcome=str(outcome))
        telemetry.record(instruments.SANDBOX_PEAK, usage.peak_rss_bytes, avion__sandbox__job=job)
        if outcome in _KILLED:
            telemetry.count(instruments.SANDBOX_KILLS, avion__sandbox__job=job, cause=str(outcome))

    return observe
