"""The errors of a sandbox, as its caller sees them, and the two that a job raises itself."""

from __future__ import annotations

from collections.abc import Sequence


class SandboxError(Exception):
    """Base of all errors but `SandboxJobFailed`, which is a bug: a handler of this class must not hide it."""


class SandboxUnavailable(SandboxError):
    """The sandbox cannot start, is gone, or takes no job. Says nothing about the file."""


class NotConfined(SandboxUnavailable):
    """The sandbox must have no gaps on this machine, and has ``gaps``, which are those of `SandboxReport`."""

    def __init__(self, gaps: Sequence[str]) -> None:
        super().__init__(f"this machine cannot confine jobs as required; not denied: {', '.join(gaps)}")
        self.gaps = gaps


class BudgetTooSmall(SandboxUnavailable):
    """A job may use ``needed_bytes`` of memory, and all jobs together only ``budget_bytes``: it can never run."""

    def __init__(self, needed_bytes: int, budget_bytes: int) -> None:
        super().__init__(f"a job needs {needed_bytes} bytes, and the budget is {budget_bytes}")
        self.needed_bytes = needed_bytes
        self.budget_bytes = budget_bytes


class JobKilled(SandboxError):
    """The job was killed from outside, most likely because memory ran out, or its wall time was over.

    Or the disk of its files was full, or failed.

    The file may be the cause, or a host with too little memory or CPU. So a caller should bound how often it retries.
    """


class LimitExceeded(SandboxError):
    """The job exceeded a limit: memory, CPU time or output. A job may raise it too, if it foresees that."""


class JobCrashed(SandboxError):
    """A signal killed the job, or it ended without a result, or with one that no job can have returned."""


class InputRejected(SandboxError):
    """The job rejects its input. A job raises it; ``code`` and ``detail`` arrive at the caller, cut to 500 characters.

    ``code`` is for programs, and ``detail`` for people. A hijacked job chooses both.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class SandboxJobFailed(Exception):
    """A job raised an unexpected error: its code has a bug, which the input may use. The text is the end of the job's
    traceback, at most 500 characters. A hijacked job chooses it."""


class JobNotStarted(SandboxJobFailed):
    """The process of a job could not be prepared, so that the job has read nothing. Says nothing about the file."""
