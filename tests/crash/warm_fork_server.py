"""A fork server of the sandbox that has loaded all codecs in advance.

An interpreter with all codecs takes a second of CPU, and each process of each crash point would start one. The source
of processes has loaded them. Each process that it forks leaves a fork of itself behind, single-threaded like a fresh
interpreter, which becomes the first fork server. Later fork servers are started as usual.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

import trio

from avion_media.config import Config
from avion_media.items.moderation import likeness
from avion_media.media.pipeline import preload_for
from trio_sandbox import fork_server

_CONTROL = 3  # its descriptor, after those of every process
_MAX_BYTES = 1 << 16  # of the message that requests it


def load_codecs() -> None:
    """Load the modules that the fork servers of both sandboxes load."""
    fork_server._preload([*preload_for(Config().decoders.enabled()), *likeness.PRELOAD])


def leave_one_behind() -> None:
    """Fork the server, and let the first process that Trio opens be this fork. Call it while there is one thread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _wait_and_serve(theirs)
        finally:
            os._exit(1)
    theirs.close()
    start = trio.lowlevel.open_process

    async def take(command: Sequence[str], *, stderr: int, pass_fds: Sequence[int], **_: Any) -> trio.Process:
        trio.lowlevel.open_process = start
        socket.send_fds(ours, [command[-1].encode()], [*pass_fds, stderr])
        ours.close()
        process: Any = _Forked(pid)
        return trio.Process._create(process, None, None, None)

    trio.lowlevel.open_process = take  # type: ignore[assignment] # takes what this one caller gives


def _wait_and_serve(asked: socket.socket) -> None:
    message, received, _, _ = socket.recv_fds(asked, _MAX_BYTES, 2)
    if not message:
        os._exit(0)  # the process ended without one
    control, complaints = received
    os.setsid()
    os.dup2(complaints, 2)
    os.dup2(control, _CONTROL)
    os.closerange(_CONTROL + 1, os.sysconf("SC_OPEN_MAX"))
    fork_server.main([str(_CONTROL), message.decode()])
    os._exit(0)


class _Forked:
    """The part of `subprocess.Popen` that `trio.Process` needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.args = ["fork server"]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self._wait(os.WNOHANG)
        return self.returncode

    def wait(self) -> int | None:
        self._wait(0)
        return self.returncode

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _wait(self, options: int) -> None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
