"""The fork server (``python -m trio_sandbox.fork_server``): one thread, libraries loaded, a fork per job.

It is a process of its own because forking a threaded process (Trio's) is unsafe, and because forking this small process
takes a few milliseconds, while a fresh interpreter with Pillow takes a hundred. It never reads untrusted bytes.

Jobs arrive on the control socket. Each has a channel of its own: the fork server writes the child's exit to it, and
kills the child when the other end is shut. When the control socket ends, for any reason, it kills all children and
exits.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field

from trio_sandbox import child, kernel
from trio_sandbox.confinement import USERS, find_means, landlock_ruleset
from trio_sandbox.messages import Exit, ForkServerSettings, JobRequest, SandboxReport, pack, receive_request


@dataclass(eq=False, slots=True)
class _Child:
    pid: int
    pidfd: int
    channel: socket.socket
    started: float
    deadline: float
    user: int
    killed: bool = False


@dataclass(slots=True)
class ForkServer:
    """The loop and its children."""

    control: socket.socket
    settings: ForkServerSettings
    means: SandboxReport
    ruleset: int
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _children: set[_Child] = field(default_factory=set)

    def run(self) -> None:
        """Serve until the other side has closed. Leaves no child."""
        self._selector.register(self.control, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select(self._time_left()):
                if key.data is None:
                    received = receive_request(self.control)
                    if received is None:
                        return self._end()
                    self._start(*received)
                elif key.fd == key.data.pidfd:
                    self._reap(key.data)
                elif key.data in self._children:
                    self._selector.unregister(key.data.channel)  # shut: the caller was cancelled
                    self._kill(key.data)
            self._kill_overdue()

    def _time_left(self) -> float | None:
        deadlines = [each.deadline for each in self._children if not each.killed]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _start(self, request: JobRequest, files: list[int]) -> None:
        channel = socket.socket(fileno=files[0])
        channel.setblocking(False)
        started = time.monotonic()
        # By chance, because other fork servers of this machine choose among the same ones.
        user = random.choice([*{*USERS} - {each.user for each in self._children}])
        try:
            pid = self._fork(request, files[1:], user)
        except OSError as error:
            _send(channel, Exit(0.0, 0.0, 0, error=f"cannot start {request.name}: {error!r}"))
            channel.close()
        else:
            running = _Child(pid, os.pidfd_open(pid), channel, started, started + request.limits.wall_s, user)
            self._children.add(running)
            self._selector.register(running.pidfd, selectors.EVENT_READ, running)
            self._selector.register(channel, selectors.EVENT_READ, running)
        finally:
            for each in files[1:]:
                os.close(each)

    def _fork(self, request: JobRequest, files: list[int], user: int) -> int:
        if request.name.partition(":")[0] not in sys.modules:
            with contextlib.suppress(Exception):  # the child will meet it again, and report it
                child.find_function(request.name)
            _settle()
        fork_server_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            child.run_job(
                request,
                files,
                self.settings,
                ruleset=self.ruleset,
                means=self.means,
                user=user,
                fork_server_pid=fork_server_pid,
            )
        return pid

    def _kill(self, running: _Child) -> None:
        """Kill the whole process group. The filter allows no second process, but there may be no filter."""
        running.killed = True
        signal.pidfd_send_signal(running.pidfd, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for each in self._children:
            if not each.killed and each.deadline <= now:
                self._kill(each)

    def _reap(self, running: _Child) -> None:
        _, status, used = os.wait4(running.pid, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)  # its group, in case it has left other processes
        self._children.remove(running)
        self._selector.unregister(running.pidfd)
        with contextlib.suppress(KeyError):
            self._selector.unregister(running.channel)
        os.close(running.pidfd)
        by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        cpu_s, wall_s = used.ru_utime + used.ru_stime, time.monotonic() - running.started
        _send(running.channel, Exit(cpu_s, wall_s, used.ru_maxrss * 1024, by_signal))
        running.channel.close()

    def _end(self) -> None:
        for each in list(self._children):
            self._kill(each)
            self._reap(each)


def _send(channel: socket.socket, message: Exit) -> None:
    # If the caller has exited, the child is reaped anyway.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.send(pack(message))


def _preload(entries: list[str]) -> None:
    """Import ``module``, or import it and call ``module:function`` without arguments."""
    for entry in entries:
        if ":" in entry:
            child.find_function(entry)()
        else:
            importlib.import_module(entry)


def _settle() -> None:
    gc.collect()
    gc.freeze()  # else a collection in a child would copy every page that holds an object's header


def main(arguments: list[str]) -> None:
    """Arguments: the control socket's descriptor, and `ForkServerSettings` as JSON."""
    kernel.close_to_others()  # children share its address layout; no other process may read that, or its memory
    os.environ.clear()
    os.chdir("/")  # the start directory is not needed, and may be unmounted
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then closes the control socket
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    settings = ForkServerSettings(**json.loads(arguments[1]))
    _preload([*settings.preload, *filter(None, [settings.translate.partition(":")[0]])])
    means = find_means()
    ruleset = landlock_ruleset(means.landlock_abi) if means.landlock_abi else -1
    _settle()
    control.send(pack(means))
    ForkServer(control, settings, means, ruleset).run()


if __name__ == "__main__":
    main(sys.argv[1:])
