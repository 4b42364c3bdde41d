"""The few kernel calls that Python has no function for, by ctypes. Linux only."""

from __future__ import annotations

import ctypes
import os
import signal

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.prctl.restype = ctypes.c_int

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; ``OSError`` when it fails. Bytes are passed as a pointer to them, for reading."""
    widened = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_LIBC.syscall(ctypes.c_long(number), *widened))
    if result < 0:
        raise _last_error()
    return result


def prctl(option: int, *arguments: int | bytes) -> None:
    """``prctl(2)`` with its unused arguments zero; ``OSError`` when it fails."""
    widened = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    widened += [ctypes.c_ulong(0)] * (4 - len(widened))
    if _LIBC.prctl(ctypes.c_int(option), *widened) < 0:
        raise _last_error()


def close_to_others() -> None:
    """Deny other processes of this user the present process's environment, memory and address layout.

    Others are all without CAP_SYS_PTRACE: ``/proc/PID/environ``, ``mem`` and ``maps`` and every debugger are closed to
    them, and the kernel writes no core dump. Most of ``/proc/self`` belongs to root from now on: what has no access for
    others (``environ``, ``oom_score_adj`` for writing) is closed to the process itself as well, unless it is root's.
    The next exec undoes it.
    """
    prctl(PR_SET_DUMPABLE, 0)


def open_to_others() -> None:
    """Undo `close_to_others`."""
    prctl(PR_SET_DUMPABLE, 1)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def describe_exit(returncode: int) -> str:
    """Return the rest of a sentence about a process, such as "was killed by SIGKILL" or "ended with status 3"."""
    return f"was killed by {signal_name(-returncode)}" if returncode < 0 else f"ended with status {returncode}"


def signal_name(number: int) -> str:
    """Return the name of a signal; its number if it has no name."""
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)
