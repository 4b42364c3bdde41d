"""Runs in the child after the fork: puts descriptors in place, gives up all privileges, runs the task, exits.

Until `confinement.give_up_reach` it uses only our own code and arguments.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from avion_media.domain.errors import Rejected
from avion_media.media.sandbox import confinement, seccomp
from avion_media.media.sandbox.confinement import Means, Program
from avion_media.media.sandbox.wire import Task

EXEC_FAILED: Final = 127
_PROGRAM_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2"}  # else each thread reserves 64 MiB of address space
_NO_FD: Final = 0x7FFFFFFF
_ABOVE: Final = 200  # descriptors are kept above this number until their final numbers are free


def find_function(target: str) -> Callable[..., Any]:
    """Return the function that ``package.module:function`` names."""
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def run_job(task: Task, files: list[int], ruleset: int, means: Means, fork_server_pid: int) -> NoReturn:
    """Run a function of this package. Its result is written to ``files[0]`` as one JSON object."""
    answer_fd = files[0]
    try:
        _restore_signals()
        job = find_function(task.name)
        (ruleset,) = _place(dict(enumerate(files, start=3)), [ruleset])
        answer_fd, *job_files = range(3, 3 + len(files))
        confinement.bound_job(task.limits)
        confinement.give_up_identity(means, fork_server_pid)
        rules = seccomp.program_filter(os.getpid(), _NO_FD) if task.as_program else seccomp.job_filter(os.getpid())
        confinement.give_up_reach(means, ruleset, rules)
        _write(answer_fd, _answer(job, task.arguments, job_files))
    except BaseException:  # noqa: BLE001 - nothing must unwind into the fork server's frames; any other error is a bug
        _write(answer_fd, json.dumps({"failed": traceback.format_exc()}).encode())
    finally:
        os._exit(0)


def run_program(task: Task, files: list[int], program: Program, means: Means, fork_server_pid: int) -> NoReturn:
    """Become an external program, with ``files`` as its descriptors 1, 2 and ``task.numbers``."""
    try:
        _restore_signals()
        targets = dict(zip((1, 2, *task.numbers), files, strict=True))
        program_fd, ruleset = _place(targets, [program.fd, program.ruleset])
        confinement.bound_program(task.limits)
        confinement.give_up_identity(means, fork_server_pid)
        confinement.give_up_reach(means, ruleset, seccomp.program_filter(os.getpid(), program_fd))
        os.execve(program_fd, list(task.argv), _PROGRAM_ENVIRONMENT)
    except BaseException as error:  # noqa: BLE001 - as above
        _write(2, f"cannot run {program.path}: {error!r}".encode())
    finally:
        os._exit(EXEC_FAILED)


def _answer(job: Callable[..., Any], arguments: dict[str, Any], files: list[int]) -> bytes:
    try:
        return json.dumps({"done": job(arguments, files)}).encode()
    except Rejected as error:
        return json.dumps({"rejected": [error.reason, error.detail]}).encode()
    except MemoryError:
        return b'{"limit": "memory"}'


def _restore_signals() -> None:
    """Undo the signal settings of the fork server and the interpreter, so that exceeding a limit kills the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()


def _place(targets: dict[int, int], carried: Sequence[int]) -> list[int]:
    """Give each file of ``targets`` its number, and close all others except ``carried``.

    Return the present numbers of ``carried``, which an exec closes; -1 stays -1. Descriptors 0, 1 and 2 that are not
    targets lead to /dev/null.
    """
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    wanted = {0: nowhere, 1: nowhere, 2: nowhere} | targets
    parked = {number: fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for number, each in wanted.items()}
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE + len(parked)) if each >= 0 else -1 for each in carried]
    os.closerange(3, _ABOVE)
    for number, each in parked.items():
        os.dup2(each, number)
        os.close(each)
    os.closerange(max(_ABOVE - 1, *moved) + 1, 1 << 20)
    return moved


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
