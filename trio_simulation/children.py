"""Functions in forked processes: one that hangs or crashes takes nothing with it."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_READ_BYTES = 65536


class ChildFailed(Exception):
    """A forked process did not return a result."""


@dataclass
class _Child(Generic[K]):
    key: K
    pid: int
    pipe: int
    kill_at: float
    received: bytearray = field(default_factory=bytearray)


def map_in_children(
    function: Callable[[K], V], keys: Iterable[K], *, jobs: int, limit_s: float
) -> Iterator[tuple[K, V | ChildFailed]]:
    """Call a function for each key in a process of its own, and yield results as they come.

    Args:
      jobs: how many processes run at once.
      limit_s: real seconds after which a process is killed.
    """
    waiting = iter(keys)
    children: dict[int, _Child[K]] = {}
    exhausted = False
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                while not exhausted and len(children) < jobs:
                    try:
                        key = next(waiting)
                    except StopIteration:
                        exhausted = True
                        break
                    child = _fork(function, key, limit_s)
                    children[child.pipe] = child
                    selector.register(child.pipe, selectors.EVENT_READ)
                if not children:
                    return
                for child in _ended(selector, children):
                    yield child.key, _result(child, limit_s)
        finally:
            for child in children.values():
                os.kill(child.pid, signal.SIGKILL)
                os.close(child.pipe)
                os.waitpid(child.pid, 0)


def _fork(function: Callable[[K], V], key: K, limit_s: float) -> _Child[K]:
    sys.stdout.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(key, pid, reading, time.monotonic() + limit_s)
    status = 1
    try:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(function(key)))
        status = 0
    except BaseException:  # noqa: BLE001  # the child must not return into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended(selector: selectors.BaseSelector, children: dict[int, _Child[K]]) -> Iterator[_Child[K]]:
    """Read what children write, and yield those that have ended."""
    now = time.monotonic()
    next_kill_s = min(child.kill_at for child in children.values()) - now
    ready = [key.fd for key, _ in selector.select(max(0.0, next_kill_s))]
    for child in list(children.values()):
        if child.kill_at <= time.monotonic():
            os.kill(child.pid, signal.SIGKILL)
        elif child.pipe not in ready:
            continue
        data = os.read(child.pipe, _READ_BYTES)
        child.received += data
        if not data:
            selector.unregister(child.pipe)
            del children[child.pipe]
            os.close(child.pipe)
            yield child


def _result(child: _Child[K], limit_s: float) -> V | ChildFailed:
    status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    if status == -signal.SIGKILL:
        return ChildFailed(f"killed after {limit_s:g} real seconds: it hangs, or is too slow")
    if status != 0:
        return ChildFailed(f"its process ended with status {status}")
    value: V = pickle.loads(child.received)
    return value
