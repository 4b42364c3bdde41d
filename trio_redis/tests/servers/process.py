"""Starting, watching and surely stopping the programs behind the test servers."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STOP_GRACE_S = 5.0
_LOG_TAIL_BYTES = 4000
_PORTS = (10_000, 22_000)  # and 10 000 above is where a node of a Redis Cluster talks to the others
_chance = random.SystemRandom()  # tests may seed the common one
_given: set[int] = set()  # by this process
# A lock on the byte of its number says that a process has given the port out. It ends with the process. All test runs
# of a machine share the file, which holds nothing.
_locks = os.open(Path(tempfile.gettempdir()) / f"avion-test-ports-{os.getuid()}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)


class ServiceFailed(Exception):
    """A server could not be started. The message ends with the tail of its log."""


def require(program: str, package: str) -> str:
    """The program's path; ServiceFailed names the Debian package when it is missing."""
    # Debian keeps some daemons in /usr/sbin, which is not on everybody's PATH.
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ServiceFailed(f"{program} is not installed: apt-get install {package} (or: ops/bootstrap test)")
    return path


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free, and that no test process gives out again while this one lives.

    Without the second rule, two services that start at once, or one whose port is closed for a moment by a restart,
    sometimes meet on a port. It is none of those that the kernel gives to outgoing connections: such a port would be
    taken before its server is up.
    """
    while True:
        port = _chance.randint(*_PORTS)
        if port in _given or not _reserved(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port


def _reserved(port: int) -> bool:
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:  # another process has it
        return False
    return True


@contextmanager
def working_directory(name: str) -> Iterator[Path]:
    """A new directory that is removed afterwards, even when this process is killed.

    A janitor waits on a pipe that only this process holds: its end, however it came, is the signal to clean up.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"avion-{name}-"))
    janitor = subprocess.Popen(
        [
            "sh",
            "-c",
            'trap "" INT TERM HUP; read -r _; rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }',
            "sh",
            directory,
        ],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield directory
    finally:
        assert janitor.stdin is not None
        janitor.stdin.close()
        janitor.wait(timeout=30)


class Program:
    """One running program: its own process group, killed by the kernel should this process die."""

    def __init__(self, command: list[str | Path], log: Path) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                # setpriv (util-linux) sets the parent-death signal without running Python between fork and exec.
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its group."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Poll until it is ready; ServiceFailed with its log when it ends or takes longer than that."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self._process.poll() is not None:
                raise ServiceFailed(f"{self.name} exited with {self._process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{self.name} was not ready after {timeout_s:g} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self) -> str:
        """The end of what it said."""
        return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to the group after a grace. Safe to repeat."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait. Safe to repeat."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(command: list[str | Path], log: Path) -> Iterator[Program]:
    """The program, running for as long as the block."""
    program = Program(command, log)
    try:
        yield program
    finally:
        program.stop()


def run(command: list[str | Path], log: Path, *, timeout_s: float = 30.0, stdin: str = "") -> str:
    """Run a command to its end and return what it printed; ServiceFailed when it fails or takes longer."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        tail = log.read_text(errors="replace")[-_LOG_TAIL_BYTES:] if log.exists() else ""
        raise ServiceFailed(f"{name} took longer than {timeout_s:g} s:\n{tail}") from None
    if done.returncode != 0:
        raise ServiceFailed(f"{name} exited with {done.returncode}:\n{(done.stdout + done.stderr)[-_LOG_TAIL_BYTES:]}")
    return done.stdout


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on that port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
