"""The few kernel calls that Python has no function for, by ctypes. Used by the fork server and its children only."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.prctl.restype = ctypes.c_int

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2


def syscall(number: int, *arguments: int | ctypes.c_void_p | None) -> int:
    """Make a system call; ``OSError`` when it fails."""
    widened = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_LIBC.syscall(ctypes.c_long(number), *widened))
    if result < 0:
        raise _last_error()
    return result


def prctl(option: int, *arguments: int | ctypes.c_void_p) -> None:
    """``prctl(2)`` with its unused arguments zero; ``OSError`` when it fails."""
    widened = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    widened += [ctypes.c_ulong(0)] * (4 - len(widened))
    if _LIBC.prctl(ctypes.c_int(option), *widened) < 0:
        raise _last_error()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
