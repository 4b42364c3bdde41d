"""Messages between the Trio process and the fork server: one JSON object per SEQPACKET packet, with descriptors."""

from __future__ import annotations

import array
import json
import os
import socket
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from avion_media.media.sandbox import Limits, ProcessUsage, SandboxReport

MAX_MESSAGE_BYTES: Final = 64 << 10
MAX_FILES: Final = 32


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
    timed_out: bool = False
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


def receive_task(control: socket.socket) -> tuple[JobRequest, list[int]] | None:
    """Return the next task and its descriptors (close-on-exec, now ours), or None if the other side has closed."""
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
        raise OSError("a task was cut off")
    fields = json.loads(data)
    return JobRequest(**fields | {"limits": Limits(**fields["limits"])}), list(files)
