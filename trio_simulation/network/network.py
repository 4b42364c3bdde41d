"""The network of a simulation."""

from __future__ import annotations

import errno
import os
import random
import socket as stdlib_socket
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

import trio

from ..processes import Process, current_process
from .ends import Address, End, Segment, Way
from .links import Cut, Links
from .listening import Listening
from .polling import SimulatedPoll
from .postman import Postman
from .sockets import FIRST_NUMBER, SimulatedSocket

if TYPE_CHECKING:
    from ..nodes import Node

# Linux sends a SYN again after 1, 3, 7, … seconds, and gives up after 127 (tcp(7): tcp_syn_retries).
_SYN_PAUSES_S = (1, 2, 4, 8, 16, 32, 64)
_TLS_HANDSHAKE = b"\x16\x03"
_SUPPORTED = (stdlib_socket.AF_INET, stdlib_socket.SOCK_STREAM)

Note = Callable[[str, bytes], None]


class Network(trio.abc.SocketFactory, trio.abc.HostnameResolver):
    """Connects the nodes of a simulation, and fails as it is asked to."""

    def __init__(self, chance: random.Random, note: Note) -> None:
        self.postman = Postman()
        self.links = Links(chance, self.changed)
        self._chance = chance
        self._note = note
        self._nodes: dict[str, Node] = {}
        self._numbers = count(1)
        self._connections: dict[End, None] = {}
        self._sockets: dict[int, SimulatedSocket | SimulatedPoll] = {}
        self._descriptors = count(FIRST_NUMBER)
        self._stalled: dict[Way, None] = {}
        self._unreported: dict[End, None] = {}

    # --- faults

    @property
    def latency_s(self) -> tuple[float, float]:
        """The range from which the time of each packet is chosen."""
        return self.links.latency_s

    @latency_s.setter
    def latency_s(self, between: tuple[float, float]) -> None:
        self.links.latency_s = between

    def partition(self, nodes: Iterable[Node], others: Iterable[Node], *, one_way: bool = False) -> Cut:
        """Lose all packets between two groups, or only those from the first to the second, until `Cut.heal`.

        Connections stay open. What was sent arrives after the heal, if that comes within 15 minutes.
        """
        cut = self.links.cut(nodes, others, one_way=one_way)
        arrow = "->" if one_way else "<->"
        self._note(f"cut {sorted(cut.sources)} {arrow} {sorted(cut.targets)}", b"")
        return cut

    def heal(self) -> None:
        """End all partitions."""
        self._note("heal", b"")
        self.links.heal_all()

    def slow(self, node: Node, extra_s: float) -> None:
        """Let each packet from and to a node take up to so much longer; 0 ends it."""
        self._note(f"slow {node.name} {extra_s!r}", b"")
        self.links.slow(node, extra_s)

    def reset(self, node: Node, other: Node | None = None, *, share: float = 1.0) -> int:
        """Break connections of a node (with another one), each with this probability; return how many."""
        chosen = self._choose(node, other, share)
        for end in chosen:
            end.reset()
        self._note(f"reset {[end.name for end in chosen]}", b"")
        return len(chosen)

    def hang(self, node: Node, other: Node | None = None, *, share: float = 1.0) -> int:
        """Let connections of a node hang: nothing arrives any more, without an error. Return how many."""
        chosen = self._choose(node, other, share)
        for end in chosen:
            end.hang()
        self._note(f"hang {[end.name for end in chosen]}", b"")
        return len(chosen)

    def _choose(self, node: Node, other: Node | None, share: float) -> list[End]:
        self._connections = {end: None for end in self._connections if not (end.over and end.peer.over)}
        between = [
            end
            for end in self._connections
            if node in (end.node, end.peer.node) and other in (None, end.node, end.peer.node)
        ]
        return [end for end in between if self._chance.random() < share]

    # --- what nodes and connections report

    def add(self, node: Node) -> None:
        """Make a node reachable by its name and address."""
        for name in (node.name, node.address):
            if name in self._nodes:
                raise ValueError(f"there is a node {name} already")
            self._nodes[name] = node

    def changed(self) -> None:
        """Try what was stalled again: a cut was healed, or a node has power again."""
        stalled, self._stalled = self._stalled, {}
        for way in stalled:
            way.go_on()
        unreported, self._unreported = self._unreported, {}
        for end in unreported:
            end.report_held_room()

    def stall(self, way: Way) -> None:
        """Remember that something waits for the end of a cut."""
        self._stalled[way] = None

    def hold_report(self, end: End) -> None:
        """Remember that an acknowledgement waits for the end of a cut."""
        self._unreported[end] = None

    def note(self, source: End, segment: Segment) -> None:
        """Write into the trace what arrives. Of TLS only that something does: OpenSSL's keys follow no seed."""
        if segment.data.startswith(_TLS_HANDSHAKE):
            source.encrypted = source.peer.encrypted = True
        data = b"" if source.encrypted else segment.data
        self._note(f"{source.name} -> {source.peer.name} {segment.kind.value}", data)

    # --- sockets by their numbers

    def number(self, sock: SimulatedSocket | SimulatedPoll) -> int:
        """Give a socket a number in place of a file descriptor."""
        number = next(self._descriptors)
        self._sockets[number] = sock
        return number

    def forget(self, number: int) -> None:
        """Forget a socket that was closed."""
        self._sockets.pop(number, None)

    def is_open(self, number: int) -> bool:
        """Return whether a number is that of an open socket."""
        return number in self._sockets

    def find(self, number: int) -> SimulatedSocket:
        """Return the socket of a number."""
        found = self._sockets.get(number)
        if not isinstance(found, SimulatedSocket):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return found

    def find_waitable(self, number: int) -> SimulatedSocket | SimulatedPoll:
        """Return the socket or the epoll instance of a number."""
        found = self._sockets.get(number)
        return found if isinstance(found, SimulatedPoll) else self.find(number)

    def poll(self) -> SimulatedPoll:
        """Return a new epoll instance."""
        return SimulatedPoll(self)

    # --- connections

    async def connect(self, process: Process, local: Address, remote: Address) -> End:
        """Open a connection, as TCP does: with SYN packets that are repeated for two minutes."""
        host, port = remote
        target = self._at(process.node, host)
        for pause_s in (*_SYN_PAUSES_S, None):
            await self._travel(process.node, target)
            listening = self._listening(process.node, target, host, port)
            if self.links.open(process.node, target) and not (listening and listening.full):
                break
            if pause_s is None:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            await trio.sleep(pause_s)
        if listening is None:
            await self._travel(target, process.node)
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        number = next(self._numbers)
        end = End(self, process, number, local, remote)
        accepted = End(self, listening.process, number, remote, local)
        end.peer, accepted.peer = accepted, end
        self._connections[end] = None
        self._note(f"{end.name} -> {accepted.name} connect {port}", b"")
        listening.offer(accepted)
        try:
            await self._travel(target, process.node)
        except trio.Cancelled:
            end.close()
            raise
        return end

    async def _travel(self, source: Node, target: Node) -> None:
        await trio.sleep(self.links.delay_s(source, target))

    def _at(self, source: Node, host: str) -> Node:
        if host.startswith("127.") or host in ("0.0.0.0", "localhost"):
            return source
        if host not in self._nodes:
            raise OSError(errno.EHOSTUNREACH, f"{os.strerror(errno.EHOSTUNREACH)}: no node has the address {host}")
        return self._nodes[host]

    def _listening(self, source: Node, target: Node, host: str, port: int) -> Listening | None:
        asked = host if source is target else target.address
        for address in (asked, "0.0.0.0"):
            if (address, port) in target.listening:
                return target.listening[address, port]
        return None

    # --- what Trio calls

    def socket(self, family: int = _SUPPORTED[0], type: int = _SUPPORTED[1], proto: int = 0) -> SimulatedSocket:
        """Return a new socket. Only TCP over IPv4 is simulated."""
        if (family, type) != _SUPPORTED:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return SimulatedSocket(self, current_process())

    async def getaddrinfo(
        self, host: bytes | None, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """Return the address of the node of this name."""
        await trio.lowlevel.checkpoint()
        process = current_process()
        process.check()
        name = host.decode() if host else "localhost"
        address = "127.0.0.1" if name == "localhost" else None
        if address is None and name in self._nodes:
            address = self._nodes[name].address
        if address is None or family not in (0, stdlib_socket.AF_INET):
            raise stdlib_socket.gaierror(stdlib_socket.EAI_NONAME, f"no node is called {name}")
        return [(*_SUPPORTED, stdlib_socket.IPPROTO_TCP, "", (address, int(port or 0)))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Return the name of the node at this address."""
        await trio.lowlevel.checkpoint()
        host, port = sockaddr[:2]
        return (self._nodes[host].name if host in self._nodes else host), str(port)
