"""The socket that Trio programs get: TCP, as Linux behaves."""

from __future__ import annotations

import builtins
import errno
import os
import select
import socket as stdlib_socket
from collections.abc import Awaitable, Callable
from socket import AddressFamily, SocketKind
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from ..processes import Process
from .ends import Address, End
from .listening import Listening

if TYPE_CHECKING:
    from .network import Network
    from .polling import SimulatedPoll

T = TypeVar("T")

_ANY = ("", 0)
# No kernel gives out such a file descriptor.
FIRST_NUMBER = 1 << 30


class SimulatedSocket(trio.socket.SocketType):
    """A TCP socket in memory."""

    def __init__(self, network: Network, process: Process, end: End | None = None) -> None:
        super().__init__()
        self._network = network
        self._process = process
        self._end = end
        self._listening: Listening | None = None
        self._local: Address = end.local if end is not None else _ANY
        self._closed = False
        self._options: dict[tuple[int, int], Any] = {}
        self._number = network.number(self)

    def __hash__(self) -> int:
        # `trio.open_tcp_stream` closes a set of sockets: in an order that each run has.
        return self._number

    def __repr__(self) -> str:
        return f"<trio_simulation socket of {self._process.node.name}, {self._local}>"

    # --- what a socket is

    @property
    def family(self) -> AddressFamily:
        return AddressFamily.AF_INET

    @property
    def type(self) -> SocketKind:
        return SocketKind.SOCK_STREAM

    @property
    def proto(self) -> int:
        return stdlib_socket.IPPROTO_TCP

    @property
    def _sock(self) -> Self:
        # AnyIO reads addresses and options from the socket below Trio's.
        return self

    def fileno(self) -> int:
        """Return a number that is no file descriptor, -1 when closed."""
        return -1 if self._closed else self._number

    @property
    def did_shutdown_SHUT_WR(self) -> bool:
        return self._end is not None and self._end.did_send_eof

    def getsockname(self) -> Address:
        self._check()
        return self._local if self._local != _ANY else ("0.0.0.0", 0)

    def getpeername(self) -> Address:
        return self._connected().remote

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        self._check()
        self._options[level, optname] = value

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        self._check()
        if (level, optname) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN):
            return int(self._listening is not None)
        if (level, optname) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR):
            return self._end.take_error() if self._end is not None else 0
        value = self._options.get((level, optname), 0)
        return value if buflen is None else bytes(buflen)

    def get_inheritable(self) -> bool:
        return False

    def set_inheritable(self, inheritable: bool) -> None:
        """Without effect: nothing is executed in a simulation."""

    # --- listening

    async def bind(self, address: Any) -> None:
        self._check()
        await trio.lowlevel.checkpoint()
        host, port = address
        if host in ("", None):
            host = "0.0.0.0"
        elif host == "localhost":
            host = "127.0.0.1"
        node = self._process.node
        if not host.startswith("127.") and host not in ("0.0.0.0", node.address):
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self._local = (host, port or node.next_port())

    def listen(self, backlog: int = 128) -> None:
        self._check()
        if self._local == _ANY:
            self._local = ("0.0.0.0", self._process.node.next_port())
        if self._local in self._process.node.listening:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._listening = Listening(self._process, self._local, backlog)

    async def accept(self) -> tuple[SimulatedSocket, Address]:
        listening = self._listening
        if listening is None:
            self._check()
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        def take() -> End:
            end = listening.take()
            if end is None:
                raise BlockingIOError
            return end

        end = await self._when_ready(take, listening.until_acceptable)
        return SimulatedSocket(self._network, self._process, end), end.remote

    def accept_nowait(self) -> tuple[SimulatedSocket, Address]:
        """Return the oldest connection that waits; BlockingIOError if none does."""
        self._check()
        end = self._listening.take() if self._listening is not None else None
        if end is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return SimulatedSocket(self._network, self._process, end), end.remote

    def watched_by(self, poll: SimulatedPoll) -> None:
        """Let an epoll instance know of everything that happens here."""
        for watched in (self._end, self._listening):
            if watched is not None:
                watched.polls[poll] = None

    def poll_events(self) -> int:
        """Return what epoll reports."""
        end = self._end
        events = select.EPOLLIN if self.is_readable() else 0
        if end is not None:
            events |= select.EPOLLOUT if end.has_room else 0
            events |= select.EPOLLHUP if end.is_over_for_both else 0
            events |= select.EPOLLERR if end.has_error else 0
        return events

    # --- a connection

    async def connect(self, address: Any) -> None:
        self._check()
        if self._end is not None:
            raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))
        host, port = address[:2]
        if not _is_numeric(host):
            [(*_, found)] = await trio.socket.getaddrinfo(host, port, self.family, self.type)
            host = str(found[0])
        node = self._process.node
        local_host = self._local[0] if self._local != _ANY else "0.0.0.0"
        if local_host == "0.0.0.0":
            local_host = host if host.startswith("127.") else node.address
        local = (local_host, self._local[1] or node.next_port())
        try:
            end = await self._network.connect(self._process, local, (host, port))
        except trio.Cancelled:
            self.close()  # as Trio does: it is neither connected nor unconnected
            raise
        self._check()
        self._end, self._local = end, local

    async def send(self, data: Any, flags: int = 0, /) -> int:
        end = self._connected()
        return await self._when_ready(lambda: end.send(data), end.until_writable)

    def send_nowait(self, data: Any) -> int:
        """Send what there is room for; BlockingIOError if there is none."""
        return self._connected().send(data)

    def receive_nowait(self, buflen: int, *, peek: bool = False) -> bytes:
        """Return what has arrived; BlockingIOError if nothing has."""
        return self._connected().receive(buflen, peek=peek)

    def room_nowait(self) -> int:
        """Return how much `send_nowait` takes; BlockingIOError if it is nothing."""
        return self._connected().room()

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        end = self._connected()
        peek = bool(flags & stdlib_socket.MSG_PEEK)
        return await self._when_ready(lambda: end.receive(buflen, peek=peek), end.until_readable)

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        with memoryview(buffer).cast("B") as view:
            data = await self.recv(nbytes or len(view), flags)
            view[: len(data)] = data
        return len(data)

    async def wait_readable(self) -> None:
        """Wait until something has arrived, or the connection has ended."""
        self._check()
        await trio.lowlevel.checkpoint()
        while not self.is_readable():
            if self._listening is not None:
                await self._listening.until_acceptable()
            else:
                await self._connected().until_readable()
            self._raise_if_closed_meanwhile()

    async def wait_writable(self) -> None:
        end = self._connected()
        await trio.lowlevel.checkpoint()
        while not end.has_room:
            await end.until_writable()
            self._raise_if_closed_meanwhile()

    def is_readable(self) -> bool:
        if self._listening is not None:
            return self._listening.waiting
        return self._end is not None and self._end.is_readable

    def shutdown(self, flag: int) -> None:
        end = self._connected()
        end.shut_down(reading=flag != stdlib_socket.SHUT_WR, writing=flag != stdlib_socket.SHUT_RD)

    # --- its end

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._network.forget(self._number)
        if self._listening is not None:
            self._listening.close()
        if self._end is not None:
            self._end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: builtins.type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self) -> None:
        self._process.check()
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _connected(self) -> End:
        self._check()
        if self._end is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._end

    def _raise_if_closed_meanwhile(self) -> None:
        self._process.check()
        if self._closed:
            raise trio.ClosedResourceError("another task closed this socket")

    async def _when_ready(self, call: Callable[[], T], wait: Callable[[], Awaitable[None]]) -> T:
        """Call it until it does not block."""
        self._check()
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            value = call()
        except BlockingIOError:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return value
        while True:
            await wait()
            self._raise_if_closed_meanwhile()
            try:
                return call()
            except BlockingIOError:
                continue


def _is_numeric(host: str) -> bool:
    try:
        stdlib_socket.inet_aton(host)
    except OSError:
        return False
    return True
