"""``python -m tests.services.without_landlock COMMAND…``: the command on a kernel that has no Landlock, as it seems.

A system call filter answers Landlock's calls with ENOSYS, for the command and all that it starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from avion_media.kernel import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    prctl,
)

_LOAD_NUMBER = (0x20, 0, 0, 0)
_FIRST, _LAST = 444, 446  # landlock_create_ruleset, landlock_add_rule, landlock_restrict_self: on all architectures
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def hide_landlock() -> None:
    """For this process and its future children."""
    program = b"".join(
        struct.pack("<HBBI", *instruction)
        for instruction in (
            _LOAD_NUMBER,
            (0x35, 0, 2, _FIRST),  # jump if greater or equal, else to the last
            (0x25, 1, 0, _LAST),  # jump if greater
            (0x06, 0, 0, _ERRNO | errno.ENOSYS),
            (0x06, 0, 0, _ALLOW),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog, 64 bit
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head)


if __name__ == "__main__":
    hide_landlock()
    os.execvp(sys.argv[1], sys.argv[1:])
