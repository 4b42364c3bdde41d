"""External programs for the sandbox: the fork server opens each once, and prepares what it may read."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Final

from avion_media.media.sandbox import landlock

_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_PT_INTERP: Final = 3


@dataclass(frozen=True, slots=True)
class Program:
    """A program ready to run: ``fd`` is the open binary, ``ruleset`` its Landlock rules (-1 without Landlock)."""

    path: str
    fd: int
    ruleset: int


def prepare(path: str, landlock_version: int) -> Program:
    """Open the program at ``path`` (absolute). Raises ``OSError`` or ``ValueError`` if it cannot be run."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    loader = _loader_of(fd)
    if not landlock_version:
        return Program(path, fd, -1)
    executables = [path] if loader is None else [path, loader]
    return Program(path, fd, landlock.program_reachable(landlock_version, executables, _LIBRARIES))


def _loader_of(fd: int) -> str | None:
    """Return the dynamic loader that a 64-bit ELF file names (PT_INTERP), or None if it is linked statically."""
    header = os.pread(fd, 64, 0)
    if header[:5] != b"\x7fELF\x02" or len(header) < 64:
        raise ValueError("not a 64-bit ELF program (a script cannot run in the sandbox)")
    table, _, _, _, entry_size, entries = struct.unpack_from("<QQIHHH", header, 32)
    for index in range(entries):
        entry = os.pread(fd, 56, table + index * entry_size)
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", entry)
        if kind == _PT_INTERP:
            return os.pread(fd, size, offset).rstrip(b"\0").decode()
    return None
