"""From a child's end to a result or an error, in one place. What a child says is hostile input."""

from __future__ import annotations

import json
import signal
from typing import Any, Final

from avion_media.domain.errors import DecoderKilled, Dependency, Reason, Rejected, Unavailable
from avion_media.media.sandbox.child import EXEC_FAILED
from avion_media.media.sandbox.job import Job, Observer
from avion_media.media.sandbox.types import Completed, JobReport, Limits, Outcome, SandboxJobFailed
from avion_media.media.sandbox.wire import Exit

_OF_A_LIMIT: Final = frozenset({signal.SIGXCPU, signal.SIGXFSZ})
_MAX_DETAIL: Final = 500


def answer_of(end: Exit, job: Job, observer: Observer | None) -> Any:
    """What our own function returned, or its error."""
    try:
        _check_end(end, job)
        result = _read_answer(bytes(job.stdout))
    except Exception as error:
        _observe(observer, job, end, error)
        raise
    _observe(observer, job, end, None)
    return result


def check_program(end: Exit, job: Job, observer: Observer | None) -> Completed:
    """How the external program ended, or why it did not end by itself."""
    try:
        if not job.sufficed:
            _check_end(end, job)
        stderr = bytes(job.stderr)
        if end.code == EXEC_FAILED and stderr.startswith(b"cannot run "):
            raise Unavailable(Dependency.SANDBOX, stderr.decode(errors="replace"))
    except Exception as error:
        _observe(observer, job, end, error)
        raise
    _observe(observer, job, end, None)
    return Completed(end.code, bytes(job.stdout), stderr, end.usage, stopped=job.sufficed)


def _check_end(end: Exit, job: Job) -> None:
    limits = job.task.limits
    if job.overflowed:
        raise Rejected(Reason.DECODER_LIMIT, "too much output")
    if end.timed_out:
        raise Rejected(Reason.DECODER_LIMIT, f"ran longer than {limits.wall_s} s")
    if _used_up_cpu(end, limits):
        raise Rejected(Reason.DECODER_LIMIT, f"used up {end.usage.cpu_s:.1f} s of CPU")
    if not end.signal:
        return
    name = signal.Signals(end.signal).name if end.signal in set(signal.Signals) else str(end.signal)
    if end.signal in _OF_A_LIMIT:
        raise Rejected(Reason.DECODER_LIMIT, f"killed by {name} after {end.usage.cpu_s:.1f} s of CPU")
    if end.signal == signal.SIGKILL:
        # Not by us: the kernel's OOM killer, whose victim says nothing about the medium. Try again, here or elsewhere.
        raise DecoderKilled(f"{job.task.name} was killed from outside (out of memory?)")
    raise Rejected(Reason.DECODER_CRASHED, f"{job.task.name} was killed by {name}")


def _used_up_cpu(end: Exit, limits: Limits) -> bool:
    """ffmpeg catches SIGXCPU and leaves with a return code. The two clocks of the kernel differ by some ticks."""
    failed = end.code != 0 or end.signal in {signal.SIGKILL, signal.SIGXCPU}
    return failed and end.usage.cpu_s >= 0.9 * limits.cpu_s


def _read_answer(data: bytes) -> Any:
    try:
        ((kind, value),) = json.loads(data).items()
    except (ValueError, AttributeError, RecursionError):
        raise Rejected(Reason.DECODER_CRASHED, "ended without an answer") from None
    if kind == "done":
        return value
    if kind == "limit":
        raise Rejected(Reason.DECODER_LIMIT, "out of memory")
    if kind == "rejected":
        raise _rejection(value)
    raise SandboxJobFailed(str(value))


def _rejection(value: Any) -> Rejected:
    try:
        reason, detail = value
        return Rejected(Reason(reason), str(detail)[:_MAX_DETAIL])
    except (ValueError, TypeError):
        return Rejected(Reason.DECODER_CRASHED, "ended with an answer that is none")


def _observe(observer: Observer | None, job: Job, end: Exit, error: Exception | None) -> None:
    if observer is None:
        return
    if error is None:
        outcome = Outcome.DONE
    elif isinstance(error, Unavailable) and end.signal == signal.SIGKILL:
        outcome = Outcome.KILLED
    elif not isinstance(error, Rejected):
        outcome = Outcome.FAILED
    elif error.reason is Reason.DECODER_LIMIT:
        outcome = Outcome.LIMIT
    elif error.reason is Reason.DECODER_CRASHED:
        outcome = Outcome.CRASHED
    else:
        outcome = Outcome.REJECTED
    observer(JobReport(job.task.name, outcome, end.usage))
