"""Run `avion-media` in processes forked from one that has imported it: an import takes a second of CPU.

Commands are run to their end. A service goes on, as a process of its own.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

_MAX_REQUEST_BYTES = 1 << 20

# A program that has the process of `answer_shells` run `avion-media`, in the environment and the folder of its caller.
SHELL_COMMAND = """\
#!/usr/bin/python3 -SE
import json, os, socket, sys
request = {"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as forker:
    forker.connect(os.path.join(os.path.dirname(__file__), "forker"))
    socket.send_fds(forker, [json.dumps(request).encode()], [0, 1, 2])
    sys.exit(int(forker.recv(16)))
"""


class _Source:
    """The process that forks them. It ends with the test process, whose end of the socket it reads."""

    def __init__(self, forks: str, first: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            imports = f"import {first}; " if first else ""
            script = f"{imports}from tests.service.commands import {forks}; {forks}({theirs.fileno()})"
            self._process = subprocess.Popen(
                [sys.executable, "-c", script], pass_fds=[theirs.fileno()], start_new_session=True
            )

    def run(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end. Raises `TimeoutExpired`; then this source has ended."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            request = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode()
            socket.send_fds(self._socket, [request], [out.fileno(), err.fileno()])
            self._socket.settimeout(timeout_s)
            try:
                status = int(self._socket.recv(16))
            except TimeoutError:
                self.close()
                raise subprocess.TimeoutExpired(["avion-media", *arguments], timeout_s) from None
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(
                ["avion-media", *arguments], status, out.read().decode(), err.read().decode()
            )

    def start(self, arguments: tuple[str, ...], environment: Mapping[str, str], out: int, err: int) -> Forked:
        """Start a service, whose output is written to these files."""
        ends, theirs = os.pipe()
        request = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode()
        socket.send_fds(self._socket, [request], [out, err, theirs])
        os.close(theirs)
        return Forked(["avion-media", *arguments], int(self._socket.recv(16)), ends)

    def close(self) -> None:
        """End it, and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()


class Forked(subprocess.Popen[bytes]):
    """A process that is nobody's child here: its parent writes its exit status to a pipe."""

    def __init__(self, command: list[str], pid: int, ends: int) -> None:
        self.args = command
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = self.stdout = self.stderr = None
        self._ends = ends
        self._child_created = False

    def poll(self) -> int | None:
        """See `subprocess.Popen.poll`."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """See `subprocess.Popen.wait`."""
        status = self._look(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def send_signal(self, sig: int) -> None:
        """See `subprocess.Popen.send_signal`."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _look(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._ends], [], [], timeout_s)[0]:
            self.returncode = int(os.read(self._ends, 16) or -signal.SIGKILL)
            os.close(self._ends)
        return self.returncode


_sources: dict[tuple[str, str], _Source] = {}


def run_command(
    *arguments: str, environment: Mapping[str, str], timeout_s: float = 60.0, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``avion-media`` with these arguments in a process of its own, and return its status and output.

    ``first`` is a module that changes the program: it is imported before all others.
    """
    try:
        return _source("fork_commands", first).run(arguments, environment, timeout_s)
    except BaseException:
        _sources.pop(("fork_commands", first), None)
        raise


def start_service(
    arguments: tuple[str, ...], environment: Mapping[str, str], out: int, err: int, *, first: str = ""
) -> subprocess.Popen[bytes]:
    """Start ``avion-media`` with these arguments. It is killed with the test process at the latest."""
    return _source("fork_services", first).start(arguments, environment, out, err)


def _source(forks: str, first: str) -> _Source:
    if not _sources:
        atexit.register(_close)
    if (forks, first) not in _sources:
        _sources[forks, first] = _Source(forks, first)
    return _sources[forks, first]


def _close() -> None:
    while _sources:
        _sources.popitem()[1].close()


def fork_commands(fileno: int) -> None:
    """The forking process: a command for each request, until the other end of the socket is closed."""
    _import_all()
    requests = socket.socket(fileno=fileno)
    while True:
        message, fds, _flags, _address = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 2)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            requests.close()
            _become(json.loads(message), *fds)
        for fd in fds:
            os.close(fd)
        _pid, status = os.waitpid(pid, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def fork_services(fileno: int) -> None:
    """The forking process: a service for each request. A process in between waits for it, and says how it ended."""
    _import_all()
    requests = socket.socket(fileno=fileno)
    while True:
        message, fds, _flags, _address = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 3)
        if not message:
            return
        out, err, ends = fds
        between = os.fork()
        if between == 0:
            if os.fork():
                os._exit(0)
            service = os.fork()
            if service == 0:
                requests.close()
                os.close(ends)
                _become(json.loads(message), out, err)
            requests.send(str(service).encode())
            _pid, status = os.waitpid(service, 0)
            with suppress(BrokenPipeError):
                os.write(ends, str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        os.waitpid(between, 0)
        for fd in fds:
            os.close(fd)


def answer_shells(fileno: int) -> None:
    """Be the other end of `SHELL_COMMAND`: run the command of each connection, one after the other."""
    _import_all()
    listener = socket.socket(fileno=fileno)
    while True:
        connection, _address = listener.accept()
        with connection:
            message, fds, _flags, _address = socket.recv_fds(connection, _MAX_REQUEST_BYTES, 3)
            request = json.loads(message)
            pid = os.fork()
            if pid == 0:
                listener.close()
                os.chdir(request["folder"])
                _become(request, fds[1], fds[2])
            for fd in fds:
                os.close(fd)
            _pid, status = os.waitpid(pid, 0)
            with suppress(BrokenPipeError):  # its caller was killed
                connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _import_all() -> None:
    from avion_media import cli

    for module in {module for module, _summary in cli._COMMANDS.values()}:
        importlib.import_module(f"avion_media.cli.{module}")
    settle()


def settle() -> None:
    """Do now what each service and command would do in its first second: build the readers of records, read the models
    of S3, import what is imported at the first request, try the native libraries, and collect garbage."""
    from avion_media import service
    from avion_media.common.records import RECORDS
    from tests.services.boto import share_models

    share_models()
    for late in ("anyio._backends._trio", "h2.connection", "httpcore", "rich._emoji_codes", "_strptime"):
        importlib.import_module(late)
    for record in RECORDS.values():
        assert record._adapter
    patched: Any = service
    patched.load_elsewhere = cache(patched.load_elsewhere)
    patched.load_elsewhere()
    service.freeze_long_lived_objects()


def _become(request: dict[str, object], out: int, err: int) -> None:
    """Be the command, and exit as it does."""
    from avion_media.__main__ import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    environment, arguments = request["environment"], request["arguments"]
    assert isinstance(environment, dict)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["avion-media", *arguments]
    status = 1
    try:
        main()
        status = 0
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
