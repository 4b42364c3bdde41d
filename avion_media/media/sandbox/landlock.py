"""Landlock: which files a child may reach by name. Prepared once in the fork server, entered by each child.

It depends on the kernel: each version of the interface handles more kinds of access (files from 1, TCP from 4, abstract
sockets and signals from 6). The system call filter denies what an older kernel does not handle. Landlock never
covers descriptors that are already open, which is how a child gets its input and output.
"""

from __future__ import annotations

import struct
from typing import Final

from avion_media.kernel import syscall
from avion_media.media.sandbox.seccomp import NUMBERS

_CREATE_VERSION: Final = 1
_LOG_SAME_EXEC_OFF: Final = 1  # else a child could flood the audit log with its denials

_ACCESSES_SINCE: Final = ((1, 13), (2, 14), (3, 15), (5, 16))  # interface version, number of kinds of file access
_NETWORK_TCP: Final = 0b11  # bind, connect
_SCOPES: Final = 0b11  # abstract Unix sockets, signals


def abi() -> int:
    """Return the kernel's version of the interface; 0 if there is none."""
    if "landlock_create_ruleset" not in NUMBERS:
        return 0
    try:
        return syscall(NUMBERS["landlock_create_ruleset"], None, 0, _CREATE_VERSION)
    except OSError:
        return 0


def nothing_reachable(version: int) -> int:
    """Return a ruleset (descriptor, close-on-exec) that reaches no file, no TCP port and no process outside."""
    files = (1 << max(kinds for since, kinds in _ACCESSES_SINCE if since <= version)) - 1
    known = 1 + (version >= 4) + (version >= 6)  # fields of the structure
    attributes = struct.pack("QQQ", files, _NETWORK_TCP, _SCOPES)[: 8 * known]
    return syscall(NUMBERS["landlock_create_ruleset"], attributes, len(attributes), 0)


def enter(ruleset: int, version: int) -> None:
    """Confine this process for good. Needs no_new_privs."""
    syscall(NUMBERS["landlock_restrict_self"], ruleset, _LOG_SAME_EXEC_OFF if version >= 7 else 0)
