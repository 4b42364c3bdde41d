"""Bodies read from the store by ranges: nothing of the store is held while a client does not read.

A body is a sequence of *windows*. Each window is one GetObject with ``Range`` and ``If-Match`` that is read to its end
into memory, and then written to the client. A response of the store that stays open for a slow client costs a Ceph
gateway 16 MiB; a window costs 64 KiB to 1 MiB here, out of a bounded budget, and nothing there. A window that fails is
read again, so a body survives a short outage of the store.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import trio

from avion_media.domain.errors import Dependency, MediaError, Unavailable
from avion_media.http1 import BodyLost
from avion_media.net import Account, Bound, Kind, PeerLimiter
from avion_media.store import ByteRange, ContentRange, ObjectInfo, ObjectPart, RangeNotSatisfiable

_SMALL_BYTES = 64 << 10  # while the peer's room is scarce
_FIRST_BYTES = 256 << 10  # holds nearly every thumbnail: one request for it
_LARGE_BYTES = 1 << 20  # for a client that reads fast; all of these divide 4 MiB, the store's own stripe
_FAST_S = 1.0  # a client that took its window within this time reads fast
_MEMORY_BYTES = 256 << 20
_SCARCE = 0.25  # of what one peer can have
_ROOM_S = 30.0  # for memory to become free
_ATTEMPT_S = 10.0
_WINDOW_S = 20.0  # for all attempts
_PAUSES_S = (0.2, 0.8)  # before the second and the third attempt


class Source(Protocol):
    """What a body needs of the store."""

    async def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""

    async def read_part(
        self, key: str, byte_range: ByteRange | None = None, *, max_bytes: int, if_match: str | None = None
    ) -> ObjectPart:
        """See `ObjectStore.read_part`."""


class WindowMemory:
    """The bytes of all windows that are in memory. One peer can have as many as are free: half of them at most."""

    def __init__(self, max_bytes: int = _MEMORY_BYTES) -> None:
        self._max_per_peer = max_bytes // 2
        self._limiter = PeerLimiter({Kind.BUFFERED_BYTES: Bound(max_bytes)})
        self._accounts: dict[str, Account] = {}  # of peers that hold something
        self._waiting: list[_Waiter] = []

    @property
    def held_bytes(self) -> int:
        """Bytes in use."""
        return self._limiter.held(Kind.BUFFERED_BYTES)

    async def take(self, peer: str, wanted: int) -> int:
        """Take ``wanted`` bytes, or 64 KiB while the peer's room is scarce, and return how many. Wait for room."""
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
        """Give bytes back. Who waits for them, first come, first served, has them when this returns."""
        account = self._accounts[peer]
        account.give(buffered_bytes=count)
        if not account.held(Kind.BUFFERED_BYTES):
            account.close()
            del self._accounts[peer]
        for waiter in list(self._waiting):
            waiter.granted = self._take_nowait(waiter.peer, waiter.wanted)
            if waiter.granted:
                self._waiting.remove(waiter)
                waiter.served.set()

    def _take_nowait(self, peer: str, wanted: int) -> int:
        account = self._accounts.get(peer) or self._limiter.account(peer)
        if account.room(Kind.BUFFERED_BYTES) < _SCARCE * self._max_per_peer:
            wanted = min(wanted, _SMALL_BYTES)
        if account.take(buffered_bytes=wanted):
            self._accounts[peer] = account
            return wanted
        if peer not in self._accounts:
            account.close()
        return 0


class _Waiter:
    def __init__(self, peer: str, wanted: int) -> None:
        self.peer = peer
        self.wanted = wanted
        self.granted = 0
        self.served = trio.Event()


class RangeBody:
    """One object, or a range of it, as its windows. Made by `open_body`; iterate over `windows` once."""

    def __init__(
        self, source: Source, memory: WindowMemory, peer: str, key: str, on_sent: Callable[[int], None]
    ) -> None:
        self.info: ObjectInfo
        self.content_range: ContentRange | None = None
        """None where everything was asked for."""
        self.length_bytes = 0
        self._source = source
        self._memory = memory
        self._peer = peer
        self._key = key
        self._on_sent = on_sent
        self._held = 0
        self._window: bytes | bytearray = b""
        self._position = 0
        self._end = 0

    async def open(self, byte_range: ByteRange | None, etag: str | None) -> None:
        """Read the first window."""
        self._held = await self._memory.take(self._peer, _FIRST_BYTES)
        first, last = byte_range or (0, None)
        if first is None and last is not None and last > self._held:  # a suffix that does not fit into one window
            info = await self._source.head(self._key)
            etag = etag or info.etag
            first, last = max(0, info.size_bytes - last), None
        if first is not None:
            window_end = first + self._held - 1
            asked: ByteRange = (first, window_end if last is None else min(last, window_end))
        else:
            asked = (None, last)
        try:
            part = await self._read(asked, etag)
        except RangeNotSatisfiable:
            if byte_range is not None:
                raise
            self.info = await self._source.head(self._key)
            if self.info.size_bytes:  # it was empty a moment ago
                raise Unavailable(Dependency.STORE, "the object changed while it was read") from None
            return
        got = part.content_range or ContentRange(0, len(part.data) - 1, len(part.data))
        self.info = part.info
        self._window = part.data
        self._position = got.last + 1
        self._end = got.total if last is None else min(last + 1, got.total) if first is not None else self._position
        self.length_bytes = self._end - got.first
        if byte_range is not None:
            self.content_range = ContentRange(got.first, self._end - 1, got.total)

    async def windows(self) -> AsyncGenerator[bytes | bytearray, None]:
        """The bytes. Raises BodyLost when the store has another object by now, or does not answer for 20 s."""
        while self._window:
            begun = trio.current_time()
            yield self._window
            self._on_sent(len(self._window))
            self.close()
            if self._position < self._end:
                fast = trio.current_time() - begun <= _FAST_S
                self._window = await self._next(_LARGE_BYTES if fast else _FIRST_BYTES)

    def close(self) -> None:
        """Give the memory back. Safe to repeat."""
        self._window = b""
        held, self._held = self._held, 0
        if held:
            self._memory.give(self._peer, held)

    async def _next(self, wanted: int) -> bytes | bytearray:
        try:
            with trio.fail_after(_ROOM_S):
                self._held = await self._memory.take(self._peer, wanted)
            end = min(self._end, (self._position // self._held + 1) * self._held)
            part = await self._read((self._position, end - 1), self.info.etag)
        except (MediaError, trio.TooSlowError) as error:
            raise BodyLost(f"{self._key} at {self._position} of {self._end}: {error!r}") from error
        self._position = end
        return part.data

    async def _read(self, byte_range: ByteRange, etag: str | None) -> ObjectPart:
        """One window, in up to three attempts; what it holds of the memory shrinks to what came."""
        last_error = "no answer"
        with trio.move_on_after(_WINDOW_S):
            for pause_s in (0.0, *_PAUSES_S):
                if pause_s:
                    await trio.sleep(pause_s * random.uniform(0.5, 1.5))
                try:
                    with trio.fail_after(_ATTEMPT_S):
                        part = await self._source.read_part(self._key, byte_range, max_bytes=self._held, if_match=etag)
                    return self._checked(part, byte_range)
                except (Unavailable, trio.TooSlowError) as error:
                    last_error = repr(error)
        raise Unavailable(Dependency.STORE, last_error)

    def _checked(self, part: ObjectPart, byte_range: ByteRange) -> ObjectPart:
        """The part, whose bytes must be those that were asked for."""
        got = part.content_range or ContentRange(0, len(part.data) - 1, len(part.data))
        first, last = byte_range
        expected_last = got.total - 1 if last is None or first is None else min(last, got.total - 1)
        if (first is not None and got.first != first) or got.last != expected_last:
            raise Unavailable(Dependency.STORE, f"{got} was sent for the range {byte_range}")
        if len(part.data) != got.last - got.first + 1:
            raise Unavailable(Dependency.STORE, f"{len(part.data)} bytes were sent for {got}")
        spare = self._held - len(part.data)
        if spare:
            self._held -= spare
            self._memory.give(self._peer, spare)
        return part


async def open_body(
    source: Source,
    memory: WindowMemory,
    peer: str,
    key: str,
    byte_range: ByteRange | None,
    etag: str | None = None,
    *,
    on_sent: Callable[[int], None],
) -> RangeBody:
    """An object, or a range of it, for ``peer``; with ``etag`` only that version. The caller closes it.

    Raises ObjectMissing, PreconditionFailed, RangeNotSatisfiable, Unavailable (after three attempts).
    """
    body = RangeBody(source, memory, peer, key, on_sent)
    try:
        await body.open(byte_range, etag)
    except BaseException:
        body.close()
        raise
    return body
