"""Clients of the plainest kind: sockets in threads, which throw away what they read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

_BUFFER_BYTES = 1 << 20
_TIMEOUT_S = 120.0
_SIP_BYTES = 4096
_SIP_S = 1.0  # from one read of a slow client to its next
_PER_ADDRESS = 100  # of slow clients: each address may have as many connections as are free


def get(connection: socket.socket, path: str) -> int:
    """One request on a connection that stays open; the number of bytes of its body."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: origin\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(_BUFFER_BYTES)
        if not received:
            raise ConnectionError("closed before the headers had ended")
        head += received
    headers, _, rest = head.partition(b"\r\n\r\n")
    lines = headers.decode("latin-1").split("\r\n")
    if " 200 " not in f"{lines[0]} ":
        raise ConnectionError(lines[0])
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    length = int(fields["content-length"])
    left = length - len(rest)
    buffer = bytearray(_BUFFER_BYTES)
    while left > 0:
        count = connection.recv_into(buffer, min(left, _BUFFER_BYTES))
        if not count:
            raise ConnectionError("closed before the body had ended")
        left -= count
    return length


def get_all(port: int, path: str, requests: int, connections: int) -> None:
    """So many requests over so many connections."""

    def work(share: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
            for _ in range(share):
                get(connection, path)

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(work, [requests // connections] * connections))


def latencies_s(port: int, path: str, requests: int) -> list[float]:
    """The time of each of so many requests, one after the other. ConnectionError when one of them is refused."""
    times = []
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
        for _ in range(requests):
            started = time.perf_counter()
            get(connection, path)
            times.append(time.perf_counter() - started)
    return times


@contextmanager
def slow_clients(port: int, path: str, count: int) -> Iterator[None]:
    """So many clients that have asked, and take 4 KiB a second each. ConnectionError when one was cut off.

    They come from addresses of their own, as many of them as the server's fair share asks for.
    """
    over = threading.Event()
    cut: list[str] = []
    with ExitStack() as stack:
        connections = []
        for number in range(count):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _SIP_BYTES)  # less is refilled too late
            connection.settimeout(_TIMEOUT_S)
            connection.bind((f"127.0.0.{2 + number // _PER_ADDRESS}", 0))
            connection.connect(("127.0.0.1", port))
            stack.enter_context(connection)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: origin\r\n\r\n".encode())
            connections.append(connection)
        for connection in connections:
            head = connection.recv(_SIP_BYTES)
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"a slow client was refused: {head[:100]!r}")

        def sip() -> None:
            while not over.wait(_SIP_S):
                for connection in connections:  # in one go: on a busy machine so many pauses take too long
                    try:
                        if not connection.recv(_SIP_BYTES):
                            cut.append("the end came early")
                    except OSError as error:
                        cut.append(repr(error))
                    if cut:
                        return

        sipping = threading.Thread(target=sip)
        sipping.start()
        try:
            yield
        finally:
            over.set()
            sipping.join()
        if cut:
            raise ConnectionError(f"a slow client was cut off: {cut[0]}")
