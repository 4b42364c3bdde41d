"""The sandbox: untrusted bytes are decoded only in sandboxed processes that can be killed, one fresh process per task.

    Trio process ──request + descriptors──▶ fork server (single-threaded, codecs loaded) ──fork──▶ sandboxed child

`sandbox.open_sandbox` starts the fork server, `Sandbox.maintain` replaces it from time to time. `Sandbox.call` runs a
function of this package in a sandboxed fork. `confinement` describes the protections. This module has the types of both
sides: limits of a task, its usage, its end. The fork server and its children never import Trio, which saves every fork
the page tables of a dozen megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one sandboxed task. Exceeding one ends it as ``Rejected(DECODER_LIMIT)``."""

    memory_bytes: int  # that it may allocate beyond what the fork server maps; taken from the sandbox's budget
    cpu_s: float  # of all its threads; the kernel rounds it up to whole seconds
    wall_s: float  # from the fork on
    output_bytes: int  # of each file that it writes; 0: none
    max_files: int = 64  # open descriptors

    def __post_init__(self) -> None:
        if min(self.memory_bytes, self.cpu_s, self.wall_s, self.max_files) <= 0 or self.output_bytes < 0:
            raise ValueError(f"limits must be positive: {self}")


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a task used, as the kernel counted it. ``peak_rss_bytes`` includes pages shared with the fork server."""

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int


class JobOutcome(StrEnum):
    """How a task ended, for metrics."""

    DONE = "done"
    REJECTED = "rejected"  # the task itself rejected the file
    LIMIT = "limit"  # memory, CPU, time or output
    CRASHED = "crashed"  # killed by a signal, or ended without a result
    KILLED = "killed"  # from outside, most likely by the kernel because memory ran out
    FAILED = "failed"  # a bug


@dataclass(frozen=True, slots=True)
class JobReport:
    """One finished task, for observers of the sandbox. ``name`` is its target."""

    name: str
    outcome: JobOutcome
    usage: ProcessUsage


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """The confinement of children on this machine."""

    landlock_abi: int  # the version of Landlock's interface; 0 without Landlock
    seccomp: bool  # calls are filtered
    drops_root: bool  # children of root become another user
    gaps: Sequence[str] = ()  # what a child could do in the self-test although it should not


class SandboxJobFailed(Exception):
    """A job raised an unexpected error, which is a bug. The text is the job's traceback."""
