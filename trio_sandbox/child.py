"""Runs in the child after the fork: puts descriptors in place, gives up all privileges, runs the job, exits.

Until `confinement.give_up_reach` it uses only our own code and arguments.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from trio_sandbox import confinement, seccomp
from trio_sandbox.errors import InputRejected, LimitExceeded, SandboxError
from trio_sandbox.messages import ForkServerSettings, JobRequest, SandboxReport

_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_ABOVE: Final = 200  # descriptors are kept above this number until their final numbers are free


def find_function(target: str) -> Callable[..., Any]:
    """Return the function that ``package.module:function`` names."""
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def run_job(
    request: JobRequest,
    files: list[int],
    settings: ForkServerSettings,
    *,
    ruleset: int,
    means: SandboxReport,
    user: int,
    fork_server_pid: int,
) -> NoReturn:
    """Run a function of this package. Its result is written to ``files[0]`` as one JSON object."""
    answer_fd, failure = files[0], "unready"
    try:
        _restore_signals()
        job = find_function(request.name)
        translate = find_function(settings.translate) if settings.translate else None
        ruleset = _place(files, ruleset)
        answer_fd, *job_files = range(3, 3 + len(files))
        confinement.bound(request.limits)
        confinement.give_up_identity(means, user, fork_server_pid)
        confinement.give_up_reach(means, ruleset, seccomp.job_filter(os.getpid(), settings.extra_calls))
        failure = "failed"
        _write(answer_fd, _answer(job, request.arguments, job_files, translate))
    except BaseException:  # noqa: BLE001 - nothing must unwind into the fork server's frames; any other error is a bug
        _write(answer_fd, json.dumps({failure: traceback.format_exc()}).encode())
    finally:
        os._exit(0)


def _answer(
    job: Callable[..., Any], arguments: dict[str, Any], files: list[int], translate: Callable[..., Any] | None
) -> bytes:
    try:
        return json.dumps({"done": job(arguments, files)}).encode()
    except MemoryError:
        return b'{"limit": "out of memory"}'
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return b'{"limit": "out of memory"}'
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            return json.dumps({"killed": str(error)}).encode()
        known = error if translate is None or isinstance(error, SandboxError) else translate(error)
        if isinstance(known, InputRejected):
            return json.dumps({"rejected": [known.code, known.detail]}).encode()
        if isinstance(known, LimitExceeded):
            return json.dumps({"limit": str(known)}).encode()
        raise


def _restore_signals() -> None:
    """Undo the signal settings of the fork server and the interpreter, so that exceeding a limit kills the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()


def _place(files: Sequence[int], ruleset: int) -> int:
    """Number ``files`` from 3 on, close all others (0 to 2 are /dev/null), and return the new number of ``ruleset``."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    parked = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for each in (nowhere, nowhere, nowhere, *files)]
    ruleset = fcntl.fcntl(ruleset, fcntl.F_DUPFD_CLOEXEC, _ABOVE) if ruleset >= 0 else -1
    for number, each in enumerate(parked):
        os.dup2(each, number, inheritable=False)
        os.close(each)
    os.closerange(len(parked), _ABOVE)
    os.closerange(max(_ABOVE - 1, ruleset) + 1, 1 << 20)
    return ruleset


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
