"""Run `avion-media` commands in processes forked from one that has imported them: an import takes a second of CPU."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress

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

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            script = f"from tests.service.commands import fork_commands; fork_commands({theirs.fileno()})"
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

    def close(self) -> None:
        """End it, and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()


_source: _Source | None = None


def run_command(
    *arguments: str, environment: Mapping[str, str], timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run ``avion-media`` with these arguments in a process of its own, and return its status and output."""
    global _source
    if _source is None:
        _source = _Source()
        atexit.register(_close)
    try:
        return _source.run(arguments, environment, timeout_s)
    except BaseException:
        _source = None
        raise


def _close() -> None:
    if _source is not None:
        _source.close()


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
    gc.freeze()


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
