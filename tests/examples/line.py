"""A browser's line to several servers, which can be cut. It counts the uploads that a store got whole."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK_BYTES = 64 << 10
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
_TARGET = re.compile(rb"PUT ([^ ?]+)\?(?:\S*?\bpartNumber=(\d+))?")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Line:
    """All connections of one client. ``close`` ends it."""

    def __init__(self) -> None:
        self.whole: Counter[tuple[str, int]] = Counter()
        """How often the body of a PUT went through whole, by path and number of the part (0: not a part)."""
        self.lost = threading.Event()
        """Set when the line is cut."""
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._connected = 0  # to servers
        self._open: set[socket.socket] = set()
        self._cut = False
        self._left: int | None = None  # bytes of bodies until the line is cut
        self._listeners = ExitStack()

    def to(self, url: str) -> str:
        """Return the address under which the line leads to a server."""
        server = urlsplit(url)
        listener = self._listeners.enter_context(socket.create_server(("127.0.0.1", 0)))
        target = (str(server.hostname), int(server.port or 80))
        threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def cut_after(self, sent_bytes: int) -> None:
        """Cut it once so many more bytes of uploads have passed, and keep it cut until `restore`."""
        self.lost.clear()
        with self._lock:
            self._left = sent_bytes

    def restore(self) -> None:
        """Let connections through again, once the servers are done with what they had got when the line was cut."""
        with self._idle:
            assert self._idle.wait_for(lambda: not self._connected, timeout=60)
            self._cut = False

    def close(self) -> None:
        """Refuse connections from now on, and end those that are open."""
        self._listeners.close()
        self._sever()

    def _sever(self) -> None:
        with self._lock:
            self._cut, self._left = True, None
            ending, self._open = self._open, set()
        for each in ending:
            _reset(each)
        self.lost.set()

    def _accept(self, listener: socket.socket, target: tuple[str, int]) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = listener.accept()
                with self._lock:
                    refused = self._cut
                    if not refused:
                        self._open.add(client)
                        self._connected += 1
                if refused:
                    _reset(client)
                else:
                    threading.Thread(target=self._connect, args=(client, target), daemon=True).start()

    def _connect(self, client: socket.socket, target: tuple[str, int]) -> None:
        with suppress(OSError), socket.create_connection(target) as server:
            answers = threading.Thread(target=_pass, args=(server, client), daemon=True)
            answers.start()
            for piece in self._requests(client):
                server.sendall(piece)
            # What the server has, it may finish; it sees the end of a body that is incomplete.
            server.shutdown(socket.SHUT_WR)
            answers.join()
        with self._idle:
            self._open.discard(client)
            self._connected -= 1
            self._idle.notify_all()
        client.close()

    def _requests(self, client: socket.socket) -> Iterator[bytes]:
        """What the client sends, up to the byte at which the line is cut."""
        head, left, upload = b"", 0, None
        while data := _receive(client):
            while data:
                if left:
                    body, data = data[:left], data[left:]
                    allowed = self._spend(len(body)) if upload else len(body)
                    left -= allowed
                    if upload and not left:  # noted before the server can answer
                        self.whole[upload] += 1
                    yield body[:allowed]
                    if allowed < len(body) or self._is_spent():
                        self._sever()
                        return
                    continue
                head += data
                end = head.find(b"\r\n\r\n")
                if end < 0:
                    break
                head, data = head[: end + 4], head[end + 4 :]
                yield head
                length, target = _LENGTH.search(head), _TARGET.match(head)
                left = int(length[1]) if length else 0
                upload = (target[1].decode(), int(target[2] or 0)) if target and left else None
                head = b""

    def _spend(self, wanted: int) -> int:
        with self._lock:
            if self._left is None:
                return wanted
            allowed = min(wanted, self._left)
            self._left -= allowed
            return allowed

    def _is_spent(self) -> bool:
        with self._lock:
            return self._left == 0


@contextmanager
def open_line() -> Iterator[Line]:
    """A line for as long as the block."""
    line = Line()
    try:
        yield line
    finally:
        line.close()


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(_CHUNK_BYTES)
    except OSError:  # reset, here or there
        return b""


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.shutdown(socket.SHUT_RD)
    connection.close()
