"""The types of both sides, and the messages between them: limits of a job, its usage, its end.

The fork server and its children never import Trio, so nothing here does.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 64 << 10
MAX_FILES: Final = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one job. Exceeding one ends it as `LimitExceeded`.

    ``memory_bytes`` is what it may allocate beyond what the fork server maps, and is taken from the sandbox's budget.
    ``cpu_s`` counts all its threads; the kernel rounds it up to whole seconds. ``wall_s`` counts from the fork, and
    ends the job as `JobKilled`: the file did not use the CPU, but others did. ``output_bytes`` is for each file that it
    writes, 0 for none. ``max_files`` are open descriptors. All others must be positive, else `ValueError`.
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
class ProcessUsage:
    """What a job used, as the kernel counted it: seconds of CPU and since the fork, and the most resident memory.

    ``peak_rss_bytes`` includes pages shared with the fork server.
    """

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int


class JobOutcome(StrEnum):
    """How a job ended, for metrics. Each is an error of `Sandbox.call`, but DONE."""

    DONE = "done"
    REJECTED = "rejected"  # the job itself rejected the file
    LIMIT = "limit"  # memory, CPU, time or output
    CRASHED = "crashed"  # killed by a signal, or ended without a result
    KILLED = "killed"  # from outside, most likely by the kernel because memory ran out
    FAILED = "failed"  # a bug


@dataclass(frozen=True, slots=True)
class JobReport:
    """One finished job, for observers of the sandbox. ``name`` is its target."""

    name: str
    outcome: JobOutcome
    usage: ProcessUsage


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """The confinement of children on this machine.

    ``landlock_abi`` is the version of Landlock's interface, 0 without Landlock. ``seccomp``: system calls are filtered.
    ``drops_root``: children of root become another user. ``gaps`` are what a child could do in the self-test although
    it should not, in words.
    """

    landlock_abi: int
    seccomp: bool
    drops_root: bool
    gaps: Sequence[str] = ()


# -- messages between the Trio process and the fork server: one JSON object per SEQPACKET packet, with descriptors


@dataclass(frozen=True, slots=True)
class ForkServerSettings:
    """What a fork server loads at its start, and what it does for each job."""

    preload: Sequence[str] = ()  # ``module``, or ``module:function`` to call
    translate: str = ""  # ``module:function`` that gets the exceptions of jobs
    extra_calls: Sequence[int] = ()  # system calls that jobs may make besides those of `seccomp`


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One call of the function ``name``. Its channel, the pipe for its answer and its files travel with it."""

    name: str
    limits: Limits
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exit(ProcessUsage):
    """How a child ended, and what it used. ``signal`` is 0 unless a signal killed it; ``error`` is why there was no
    child at all."""

    signal: int = 0
    error: str = ""


def pack(message: JobRequest | Exit | SandboxReport) -> bytes:
    """Return the packet. Raises ``ValueError`` if it is too large; data belongs into files, not into arguments."""
    data = json.dumps(asdict(message)).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(data)} bytes do not fit a message of {MAX_MESSAGE_BYTES} bytes")
    return data


def with_fds(files: list[int]) -> list[tuple[int, int, bytes]]:
    """Return ancillary data that carries ``files``."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files).tobytes())]


def receive_request(control: socket.socket) -> tuple[JobRequest, list[int]] | None:
    """Return the next job and its descriptors (close-on-exec, now ours), or None if the other side has closed."""
    ancillary_bytes = socket.CMSG_SPACE(4 * (MAX_FILES + 2))
    data, ancillary, flags, _ = control.recvmsg(MAX_MESSAGE_BYTES, ancillary_bytes, socket.MSG_CMSG_CLOEXEC)
    files = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(payload[: len(payload) - len(payload) % files.itemsize])
    if not data:
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for each in files:
            os.close(each)
        raise OSError("a job was cut off")
    fields = json.loads(data)
    return JobRequest(**fields | {"limits": Limits(**fields["limits"])}), list(files)
