"""A network link to the store on the same machine: lets through so many bytes a second of its answers, and counts them.

usage: link.py <store's port> <bytes a second>      prints its own port; each line of input is answered by the bytes so
far; ends with its input. It is a process of its own, so that it takes nobody's turn in an interpreter.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK_BYTES = 64 << 10
GIGABIT = 125_000_000  # bytes a second of a 1 Gbit/s network


class Throttle:
    """One link's capacity, shared by all connections: each chunk waits for its place in the line."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()
        self.passed_bytes = 0

    def wait(self, count: int) -> None:
        """Return when ``count`` more bytes have passed."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._bytes_per_s
            self.passed_bytes += count
            free_at = self._free_at
        time.sleep(max(0.0, free_at - time.monotonic()))


def serve(store_port: int, bytes_per_s: int) -> None:
    """Relay until standard input ends."""
    throttle = Throttle(bytes_per_s)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(listener, store_port, throttle), daemon=True).start()
    for _ in sys.stdin:
        print(throttle.passed_bytes, flush=True)


def _accept(listener: socket.socket, store_port: int, throttle: Throttle) -> None:
    while True:
        client, _ = listener.accept()
        store = socket.create_connection(("127.0.0.1", store_port))
        for end in (client, store):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_pump, args=(client, store, None), daemon=True).start()
        threading.Thread(target=_pump, args=(store, client, throttle), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket, throttle: Throttle | None) -> None:
    with suppress(OSError):  # either end may close at any time: then so does the other
        while data := source.recv(_CHUNK_BYTES):
            if throttle is not None:
                throttle.wait(len(data))
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Link:
    """A running link; ``url`` is the store's address behind it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{int(self._line())}"

    def passed_bytes(self) -> int:
        """What the store sent so far, headers included."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def open_link(store_url: str, bytes_per_s: int) -> Iterator[Link]:
    """A link to the store, for the length of the block."""
    port = store_url.rpartition(":")[2]
    command = [sys.executable, "-m", "tests.bench.poster.link", port, str(bytes_per_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Link(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
