"""Jobs that the tests run in the sandbox: good ones, bad ones, and hostile ones."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

from trio_sandbox import InputRejected, LimitExceeded

JOBS = __name__  # as the fork server finds them
_LOADED = time.monotonic_ns()


def tell_when_loaded(arguments: dict[str, Any], files: list[int]) -> int:
    return _LOADED


def echo(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    return {"arguments": arguments, "files": len(files)}


def describe(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """What this process is and has."""
    return {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "groups": os.getgid(),
        "environment": dict(os.environ),
        "leads_group": os.getpgrp() == os.getpid(),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "open": [number for number in range(512) if _is_open(number)],
    }


def copy(arguments: dict[str, Any], files: list[int]) -> int:
    source, target = files
    return os.write(target, os.read(source, 1 << 20).upper())


def reject(arguments: dict[str, Any], files: list[int]) -> None:
    raise InputRejected("corrupt", "not a picture")


class TooDeep(Exception):
    """An error of the application, which knows nothing of the sandbox."""


def fail_as_application(arguments: dict[str, Any], files: list[int]) -> None:
    raise {"deep": TooDeep("9 levels"), "long": OverflowError("9 pages"), "other": LookupError("a bug")}[
        arguments["how"]
    ]


def rejection_of(error: Exception) -> InputRejected | LimitExceeded | None:
    if isinstance(error, TooDeep):
        return InputRejected("too_deep", str(error))
    return LimitExceeded(str(error)) if isinstance(error, OverflowError) else None


def foresee(arguments: dict[str, Any], files: list[int]) -> None:
    raise LimitExceeded("needs 9 GB")


def loaded_modules(arguments: dict[str, Any], files: list[int]) -> list[str]:
    return sorted(sys.modules)


def defect(arguments: dict[str, Any], files: list[int]) -> None:
    raise KeyError("a mistake of ours")


def allocate(arguments: dict[str, Any], files: list[int]) -> int:
    return len(bytearray(arguments["bytes"]))


def spin(arguments: dict[str, Any], files: list[int]) -> None:
    while True:
        pass


def import_lazily(arguments: dict[str, Any], files: list[int]) -> None:
    """The mistake that everybody makes once."""
    import wave  # noqa: F401


def compute_in_threads(arguments: dict[str, Any], files: list[int]) -> int:
    """Decoders use threads: those must work."""
    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done)


def start_threads(arguments: dict[str, Any], files: list[int]) -> int:
    threading.stack_size(64 << 10)
    for number in range(1000):
        try:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        except RuntimeError:
            return number
    return 1000


def hang(arguments: dict[str, Any], files: list[int]) -> None:
    """Writes its process id to the given file, then ignores every signal that can be ignored, for ever."""
    os.write(files[0], f"{os.getpid()}\n".encode())
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        time.sleep(3600)


def wait_for_end(arguments: dict[str, Any], files: list[int]) -> str:
    """Says that it runs by one byte to ``files[0]``, then waits until ``files[1]`` ends."""
    os.write(files[0], b"r")
    os.read(files[1], 1)
    return str(arguments["name"])


def find_layout(arguments: dict[str, Any], files: list[int]) -> dict[str, int]:
    """What an attacker learns by a leak: where this process has a library's code and the heap."""
    code = ctypes.cast(ctypes.CDLL("libc.so.6").getpid, ctypes.c_void_p).value
    return {"server": os.getppid(), "code": code or 0, "heap": id(find_layout)}


def write(arguments: dict[str, Any], files: list[int]) -> None:
    os.write(files[0], b"a byte")


def crash(arguments: dict[str, Any], files: list[int]) -> None:
    ctypes.string_at(0)


def leave(arguments: dict[str, Any], files: list[int]) -> None:
    os._exit(0)


def write_much(arguments: dict[str, Any], files: list[int]) -> None:
    for _ in range(arguments["chunks"]):
        os.write(files[0], bytes(1 << 16))


def answer_much(arguments: dict[str, Any], files: list[int]) -> str:
    return "x" * int(arguments["bytes"])


def lie(arguments: dict[str, Any], files: list[int]) -> None:
    """A hijacked child that writes its own answer (whose descriptor is always 3)."""
    os.write(3, arguments["answer"].encode())
    os._exit(0)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def make_calls(arguments: dict[str, Any], files: list[int]) -> dict[str, str]:
    """How each system call (name: number) ends, made with arguments that are all -1."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    ends = {}
    for name, number in arguments["calls"].items():
        done = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        ends[name] = errno.errorcode[ctypes.get_errno()] if done == -1 else "done"
    return ends


def use_i386(arguments: dict[str, Any], files: list[int]) -> None:
    """A call by the numbers of another architecture, for which new code is needed: it cannot even be mapped."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC):
        pass


def raise_limits(arguments: dict[str, Any], files: list[int]) -> list[str]:
    """The limits that could be raised."""
    raised = []
    for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE"):
        which = getattr(resource, name)
        soft, hard = resource.getrlimit(which)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (soft, hard + 1))
            raised.append(name)
    return raised
