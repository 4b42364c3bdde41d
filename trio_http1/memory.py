"""Memory for the windows of bodies, bounded in all and for each peer."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from trio_grpc.net import Account, Bound, PeerLimiter, ResourceKind

_MEMORY_BYTES = 128 << 20  # 1000 slow readers from ten peers take 91 MiB
_SMALL_BYTES = 64 << 10  # while the peer's room is scarce
_SCARCE = 0.5  # of what one peer can have


class WindowMemory:
    """The bytes of all windows in memory. One peer can have as many as are still free, at most half of ``max_bytes``.

    A body takes its bytes before it reads a window, and gives them back when the window was sent.
    """

    def __init__(self, max_bytes: int = _MEMORY_BYTES) -> None:
        self._max_per_peer = max_bytes // 2
        self._limiter = PeerLimiter({ResourceKind.BUFFERED_BYTES: Bound(max_bytes)})
        self._accounts: dict[str, Account] = {}  # of peers that hold something
        self._waiting: list[_Waiter] = []

    @property
    def held_bytes(self) -> int:
        """Bytes in use."""
        return self._limiter.held(ResourceKind.BUFFERED_BYTES)

    async def take(self, peer: str, wanted: int) -> int:
        """Take ``wanted`` bytes, or 64 KiB while the peer's room is scarce. Return how many. Waits for room."""
        granted = self._take_nowait(peer, wanted)
        if granted:
            return granted
        waiter = _Waiter(peer, wanted)
        self._waiting.append(waiter)
        try:
            await waiter.served.wait()
        except trio.Cancelled:
            if waiter.granted:
                self.give(peer, waiter.granted)
            else:
                self._waiting.remove(waiter)
            raise
        return waiter.granted

    def give(self, peer: str, count: int) -> None:
        """Return bytes. Waiting tasks get them at once, first come, first served."""
        account = self._accounts[peer]
        account.give(buffered_bytes=count)
        if not account.held(ResourceKind.BUFFERED_BYTES):
            account.close()
            del self._accounts[peer]
        for waiter in list(self._waiting):
            waiter.granted = self._take_nowait(waiter.peer, waiter.wanted)
            if waiter.granted:
                self._waiting.remove(waiter)
                waiter.served.set()

    def _take_nowait(self, peer: str, wanted: int) -> int:
        account = self._accounts.get(peer) or self._limiter.account(peer)
        if account.room(ResourceKind.BUFFERED_BYTES) < _SCARCE * self._max_per_peer:
            wanted = min(wanted, _SMALL_BYTES)
        if account.take(buffered_bytes=wanted):
            self._accounts[peer] = account
            return wanted
        if peer not in self._accounts:
            account.close()
        return 0


@dataclass(eq=False, slots=True)
class _Waiter:
    peer: str
    wanted: int
    granted: int = 0
    served: trio.Event = field(default_factory=trio.Event)
