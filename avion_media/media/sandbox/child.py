"""What runs after the fork, in the child: put descriptors in place, give up everything, do the one task, exit.

Until `confinement.give_up_reach` only our own code and our own arguments are touched.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

from avion_media.domain.errors import Rejected
from avion_media.media.sandbox import confinement, seccomp
from avion_media.media.sandbox.confinement import Means
from avion_media.media.sandbox.programs import Program
from avion_media.media.sandbox.wire import Task

EXEC_FAILED: Final = 127
_PROGRAM_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2"}  # else each thread reserves 64 MiB of address space
_NO_FD: Final = 0x7FFFFFFF
_ABOVE: Final = 200  # descriptors are parked above this while their final numbers are being filled

Job = Callable[[dict[str, Any], list[int]], Any]


def find_job(target: str) -> Job:
    """The function that ``package.module:function`` names."""
    module, _, name = target.partition(":")
    found: Job = getattr(importlib.import_module(module), name)
    return found


def run_job(task: Task, files: list[int], ruleset: int, means: Means, fork_server_pid: int) -> NoReturn:
    """Run one of our functions; its answer goes to ``files[0]`` as one JSON object."""
    answer_fd = files[0]
    try:
        _restore_signals()
        job = find_job(task.name)
        kept = _keep_only([*files, ruleset] if ruleset >= 0 else files)
        answer_fd, *job_files = kept[: len(files)]
        confinement.bound_job(task.limits)
        confinement.give_up_identity(means, fork_server_pid)
        rules = seccomp.program_filter(os.getpid(), _NO_FD) if task.as_program else seccomp.job_filter(os.getpid())
        confinement.give_up_reach(means, kept[-1], rules)
        _write(answer_fd, _answer(job, task.arguments, job_files))
    except BaseException:  # noqa: BLE001 - nothing may unwind into the fork server's frames below us
        _write(answer_fd, json.dumps({"failed": traceback.format_exc()}).encode())
    finally:
        os._exit(0)


def run_program(task: Task, files: list[int], program: Program, means: Means, fork_server_pid: int) -> NoReturn:
    """Become an external program with ``files`` as its descriptors 1, 2 and ``task.numbers``."""
    try:
        _restore_signals()
        carried = [program.fd, program.ruleset] if program.ruleset >= 0 else [program.fd]
        program_fd, ruleset = _place(dict(zip((1, 2, *task.numbers), files, strict=True)), carried)
        confinement.bound_program(task.limits)
        confinement.give_up_identity(means, fork_server_pid)
        confinement.give_up_reach(means, ruleset, seccomp.program_filter(os.getpid(), program_fd))
        os.execve(program_fd, task.argv, _PROGRAM_ENVIRONMENT)
    except BaseException as error:  # noqa: BLE001 - as above
        _write(2, f"cannot run {program.path}: {error!r}".encode())
    finally:
        os._exit(EXEC_FAILED)


def _answer(job: Job, arguments: dict[str, Any], files: list[int]) -> bytes:
    try:
        return json.dumps({"done": job(arguments, files)}).encode()
    except Rejected as error:
        return json.dumps({"rejected": [error.reason, error.detail]}).encode()
    except MemoryError:
        return b'{"limit": "memory"}'
    except Exception:  # noqa: BLE001 - the boundary: whatever our code raises is a defect, told with its traceback
        return json.dumps({"failed": traceback.format_exc()}).encode()


def _restore_signals() -> None:
    """Undo what the fork server and the interpreter set: exceeding a limit must kill, not raise."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()


def _keep_only(files: list[int]) -> list[int]:
    """Close every descriptor but ``files`` and give them the lowest numbers from 3 on, in their order."""
    parked = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for each in files]
    _mute(0, 1, 2)
    os.closerange(3, _ABOVE)
    for number, each in enumerate(parked, start=3):
        os.dup2(each, number, inheritable=False)
    os.closerange(_ABOVE, 1 << 20)
    return list(range(3, 3 + len(files)))


def _place(targets: dict[int, int], carried: list[int]) -> tuple[int, int]:
    """Give each file its number and close all else. Returns where the program and its ruleset (or -1) are now."""
    parked = {number: fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for number, each in targets.items()}
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE + len(parked)) for each in carried]
    _mute(0)
    os.closerange(3, _ABOVE)
    for number, each in parked.items():
        os.dup2(each, number)
        os.close(each)
    os.closerange(moved[-1] + 1, 1 << 20)
    return moved[0], moved[1] if len(moved) > 1 else -1


def _mute(*numbers: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in numbers:
        os.dup2(nowhere, number)
    if nowhere not in numbers:
        os.close(nowhere)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
