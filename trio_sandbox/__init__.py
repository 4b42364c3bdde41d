"""Runs functions on untrusted files in short-lived sandboxed processes, on Trio and Linux.

    Trio process ──request + descriptors──▶ fork server (single-threaded, libraries loaded) ──fork──▶ confined child

`open_sandbox` starts the fork server, `Sandbox.maintain` replaces it from time to time. `Sandbox.call` runs a function
in a fresh fork that has given up all privileges; `confinement` describes the protections. The fork server and its
children import this package without Trio, which saves every fork the page tables of a dozen megabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_sandbox.errors import (
    BudgetTooSmall,
    InputRejected,
    JobCrashed,
    JobKilled,
    JobNotStarted,
    LimitExceeded,
    NotConfined,
    SandboxError,
    SandboxJobFailed,
    SandboxUnavailable,
)
from trio_sandbox.files import read_only
from trio_sandbox.messages import JobOutcome, JobReport, Limits, ProcessUsage, SandboxReport

if TYPE_CHECKING:
    from trio_sandbox.sandbox import Admission, Renewal, Sandbox, open_sandbox

__all__ = [
    "Admission",
    "BudgetTooSmall",
    "InputRejected",
    "JobCrashed",
    "JobKilled",
    "JobNotStarted",
    "JobOutcome",
    "JobReport",
    "LimitExceeded",
    "Limits",
    "NotConfined",
    "ProcessUsage",
    "Renewal",
    "Sandbox",
    "SandboxError",
    "SandboxJobFailed",
    "SandboxReport",
    "SandboxUnavailable",
    "open_sandbox",
    "read_only",
]


def __getattr__(name: str) -> Any:
    """Import what needs Trio at its first use. The fork server never uses it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trio_sandbox import sandbox

    return getattr(sandbox, name)
