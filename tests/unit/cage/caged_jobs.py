"""Jobs that the tests run in the cage: good ones, bad ones, and hostile ones."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

from avion_media.domain.errors import Reason, Rejected


def echo(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    return {"arguments": arguments, "files": len(files), "uid": os.getuid(), "environment": dict(os.environ)}


def copy(arguments: dict[str, Any], files: list[int]) -> int:
    source, target = files
    return os.write(target, os.read(source, 1 << 20).upper())


def reject(arguments: dict[str, Any], files: list[int]) -> None:
    raise Rejected(Reason.CORRUPT, "not a picture")


def defect(arguments: dict[str, Any], files: list[int]) -> None:
    raise KeyError("a mistake of ours")


def allocate(arguments: dict[str, Any], files: list[int]) -> int:
    return len(bytearray(arguments["bytes"]))


def spin(arguments: dict[str, Any], files: list[int]) -> None:
    while True:
        pass


def hang(arguments: dict[str, Any], files: list[int]) -> None:
    """Says on the given pipe that it runs, then waits for ever."""
    os.write(files[0], f"{os.getpid()}\n".encode())
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        time.sleep(3600)


def crash(arguments: dict[str, Any], files: list[int]) -> None:
    ctypes.string_at(0)


def leave(arguments: dict[str, Any], files: list[int]) -> None:
    os._exit(0)


def write_much(arguments: dict[str, Any], files: list[int]) -> None:
    for _ in range(arguments["chunks"]):
        os.write(files[0], bytes(1 << 20))


def answer_much(arguments: dict[str, Any], files: list[int]) -> str:
    return "x" * int(arguments["bytes"])


def lie(arguments: dict[str, Any], files: list[int]) -> None:
    """A hijacked child that writes its own answer (the answer's descriptor is always 3)."""
    os.write(3, arguments["answer"].encode())
    os._exit(0)


def open_descriptors(arguments: dict[str, Any], files: list[int]) -> list[int]:
    found = []
    for number in range(256):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    return found
