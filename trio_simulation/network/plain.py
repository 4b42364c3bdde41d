"""A socket as the standard library has it, on a simulated one: what a program gets that duplicates a descriptor."""

from __future__ import annotations

from socket import AddressFamily, SocketKind
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from .sockets import SimulatedSocket


class PlainSocket:
    """A socket that does not block.

    Args:
      owns: whether closing it closes the simulated socket. A duplicate does not.
    """

    def __init__(self, sock: SimulatedSocket, *, owns: bool) -> None:
        self._sock = sock
        self._owns = owns

    @property
    def family(self) -> AddressFamily:
        """AF_INET."""
        return self._sock.family

    @property
    def type(self) -> SocketKind:
        """SOCK_STREAM."""
        return self._sock.type

    def fileno(self) -> int:
        """Return the number of the simulated socket."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Refuse to block."""
        if flag:
            raise RuntimeError("a blocking socket would stop the whole program")

    def accept(self) -> tuple[PlainSocket, Any]:
        """Return the oldest connection that waits; BlockingIOError if none does."""
        accepted, address = self._sock.accept_nowait()
        return PlainSocket(accepted, owns=True), address

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send what there is room for."""
        return self._sock.send_nowait(data)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return what has arrived."""
        return self._sock.receive_nowait(bufsize)

    def shutdown(self, how: int, /) -> None:
        """Send an end, or read nothing more."""
        self._sock.shutdown(how)

    def getsockname(self) -> Any:
        """Return the local address."""
        return self._sock.getsockname()

    def getpeername(self) -> Any:
        """Return the address of the peer."""
        return self._sock.getpeername()

    def getsockopt(self, level: int, optname: int, buflen: int | None = None, /) -> Any:
        """Return an option."""
        return self._sock.getsockopt(level, optname, buflen)

    def setsockopt(self, level: int, optname: int, value: Any, /) -> None:
        """Set an option, without effect."""
        self._sock.setsockopt(level, optname, value)

    def close(self) -> None:
        """Close it. Safe to repeat."""
        if self._owns:
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
