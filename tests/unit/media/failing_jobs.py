"""Jobs that fail in the sandbox, each in its own way."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

from avion_media.common.errors import Reason, Rejected


def reject(arguments: dict[str, Any], files: list[int]) -> None:
    raise Rejected(Reason(arguments["reason"]), arguments["detail"])


def allocate(arguments: dict[str, Any], files: list[int]) -> None:
    bytearray(1 << 30)


def crash(arguments: dict[str, Any], files: list[int]) -> None:
    ctypes.string_at(0)


def defect(arguments: dict[str, Any], files: list[int]) -> None:
    raise KeyError("a mistake of ours")


def sleep(arguments: dict[str, Any], files: list[int]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    time.sleep(3600)


def lie(arguments: dict[str, Any], files: list[int]) -> None:
    """A hijacked child that writes its own answer (whose descriptor is always 3)."""
    os.write(3, arguments["answer"].encode())
    os._exit(0)
