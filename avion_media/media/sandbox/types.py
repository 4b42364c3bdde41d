"""The words of the sandbox: bounds of a task, what it used, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one sandboxed task. Crossing one ends it as ``Rejected(DECODER_LIMIT)``.

    ``memory_bytes`` is what the task may allocate on top of what the interpreter (or the program's libraries) maps;
    the same number is what it takes out of the sandbox's budget. ``cpu_s`` is CPU time of all its threads, rounded up
    to whole seconds by the kernel. ``wall_s`` counts from the fork. ``output_bytes`` bounds every file it writes (0:
    none). ``max_files`` bounds its open descriptors.
    """

    memory_bytes: int
    cpu_s: float
    wall_s: float
    output_bytes: int
    max_files: int = 64

    def __post_init__(self) -> None:
        if min(self.memory_bytes, self.cpu_s, self.wall_s, self.max_files) <= 0 or self.output_bytes < 0:
            raise ValueError(f"limits must be positive: {self}")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task used, as the kernel counted it. ``peak_rss_bytes`` includes pages shared with the fork server."""

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Completed:
    """An external program that ended by itself, or was stopped because its output sufficed (``stopped``).

    ``stderr`` holds its first 8 KiB; what came after is lost. ``returncode`` is 0 when ``stopped``.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    usage: Usage
    stopped: bool = False


class Outcome(StrEnum):
    """How a task ended, for metrics."""

    DONE = "done"
    REJECTED = "rejected"  # the task itself found the media item at fault
    LIMIT = "limit"  # memory, CPU, time or output
    CRASHED = "crashed"  # killed by a signal, or gone without an answer
    KILLED = "killed"  # from outside: most likely by the kernel, for want of memory
    FAILED = "failed"  # a bug


@dataclass(frozen=True, slots=True)
class JobReport:
    """One finished task, for observers of the sandbox. ``name`` is the job's target or the program."""

    name: str
    outcome: Outcome
    usage: Usage


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What confines the children on this machine.

    ``landlock_abi`` is 0 without Landlock. ``programs`` are those that can run, ``missing_programs`` says of each other
    one why not. ``gaps`` are the self-test's findings: what a child could do although it should not; empty is good.
    """

    landlock_abi: int
    seccomp: bool
    drops_root: bool
    programs: Sequence[str]
    missing_programs: Mapping[str, str]
    gaps: Sequence[str] = ()


class SandboxJobFailed(Exception):
    """A job raised something that it should not: a bug. The text is the job's own traceback."""
