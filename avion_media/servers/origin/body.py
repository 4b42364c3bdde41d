"""Bodies read from the store by ranges: nothing of the store is held while a client does not read.

A body is a sequence of *windows*. Each window is one GetObject with ``Range`` and ``If-Match`` that is read to its end
into memory, and then written to the client. A response of the store that stays open for a slow client costs a Ceph
gateway 16 MiB; a window costs 64 KiB to 4 MiB here, out of a bounded budget, and nothing there. A window that fails is
read again, so a body survives a short outage of the store.

A client that has read its windows fast gets the rest of a large body from one response, which passes through the kernel
(`Relay`). If the client falls behind, or the store fails, that response is closed, and windows follow.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import closing, suppress

import trio

from avion_media.backends.store import (
    ByteRange,
    Bytes,
    ContentRange,
    ObjectInfo,
    ObjectPart,
    ObjectStore,
    RangeNotSatisfiable,
    within,
)
from avion_media.common.errors import Dependency, MediaError, Unavailable
from trio_http1 import BodyLost, Relayed, WindowMemory
from trio_s3 import Relay

_FIRST_BYTES = 128 << 10  # holds nearly every thumbnail of 800 pixels
_GROWTH = 4  # up to `LARGEST_WINDOW_BYTES`, which is the store's own stripe; the other sizes divide it
_FULL_S = 1.0  # for reading and sending one window: at the present pace the next, however large, takes no longer
_ROOM_S = 30.0  # for memory to become free
_ATTEMPT_S = 10.0  # with the pause before it
_WINDOW_S = 20.0  # for all attempts
_PAUSES_S = (0.2, 0.8)  # before the second and the third attempt

LARGEST_WINDOW_BYTES = 4 << 20


class RangeBody:
    """One object, or a range of it, as its windows. `open` it, iterate over `windows` once; always `close` it."""

    def __init__(
        self, store: ObjectStore, memory: WindowMemory, peer: str, key: str, on_sent: Callable[[int], None]
    ) -> None:
        self.info: ObjectInfo
        self.content_range: ContentRange | None = None
        """None where everything was asked for."""
        self.length_bytes = 0
        self._store = store
        self._memory = memory
        self._peer = peer
        self._key = key
        self._on_sent = on_sent
        self._held = 0
        self._window: Bytes = b""
        self._wanted = _FIRST_BYTES
        self._was_relayed = False
        self._begun_at = trio.current_time()  # the window at hand
        self._position = 0
        self._end = 0

    async def open(self, byte_range: ByteRange | None, etag: str | None = None) -> None:
        """Read the first window; with ``etag`` only of that version.

        Raises ObjectMissing, PreconditionFailed, RangeNotSatisfiable, Unavailable (after three attempts).
        """
        self._held = await self._memory.take(self._peer, _FIRST_BYTES)
        first, last = byte_range or (0, None)
        if first is None and last is not None and last > self._held:  # a suffix that does not fit into one window
            info = await self._store.head(self._key)
            etag = etag or info.etag
            first, last = max(0, info.size_bytes - last), None
        asked = (first, last) if first is None else within((first, last), first + self._held)
        try:
            part, got = await self._read(asked, etag)
        except RangeNotSatisfiable:
            if byte_range is not None:
                raise
            self.info = await self._store.head(self._key)
            if self.info.size_bytes:  # it was empty a moment ago
                raise Unavailable(Dependency.STORE, "the object changed while it was read") from None
            return
        self.info = part.info
        self._window = part.data
        self._position = got.last + 1
        self._end = within((first, last), got.total)[1] + 1
        self.length_bytes = self._end - got.first
        if byte_range is not None:
            self.content_range = ContentRange(got.first, self._end - 1, got.total)

    async def windows(self) -> AsyncGenerator[Bytes | Relayed, None]:
        """The bytes; each window is to be forgotten before the next.

        Raises BodyLost when the store has another object by now, or does not answer for 20 s.
        """
        while self._window:
            yield self._window
            self._on_sent(len(self._window))
            self.close()
            self._adapt()
            if self._can_relay():
                self._was_relayed = True
                yield self._relay
            if self._position < self._end:
                self._window = await self._next()

    def close(self) -> None:
        """Give the memory back. Safe to repeat."""
        self._window = b""
        held, self._held = self._held, 0
        if held:
            self._memory.give(self._peer, held)

    def _can_relay(self) -> bool:
        """Whether the client is fast, and much is left. Once only: a slow client looks fast while its buffers fill."""
        is_worth_it = self._wanted == LARGEST_WINDOW_BYTES <= self._end - self._position
        return is_worth_it and not self._was_relayed and self._store.can_relay

    async def _relay(self, client: trio.SocketStream, timeout_s: float) -> int:
        """Pass on the rest in one response of the store, while the client keeps pace. See `Relayed`."""
        try:
            relay = Relay(client)
        except OSError:
            return 0  # windows need no descriptor
        with closing(relay):
            with suppress(MediaError, trio.TooSlowError):  # the next window will show whether that goes on
                await self._store.relay(self._key, self._position, self._end - 1, self.info.etag, relay)
            is_there = await relay.finish(timeout_s)
        self._wanted = _FIRST_BYTES
        self._position += relay.sent
        self._on_sent(relay.sent)
        if not is_there:
            raise trio.BrokenResourceError
        return relay.sent

    def _adapt(self) -> None:
        """Choose the size of the next window: as large as store and client together take within a second."""
        now = trio.current_time()
        taken_s, self._begun_at = now - self._begun_at, now
        if taken_s > _FULL_S:
            self._wanted = _FIRST_BYTES
        elif taken_s * _GROWTH <= _FULL_S:
            self._wanted = min(self._wanted * _GROWTH, LARGEST_WINDOW_BYTES)

    async def _next(self) -> Bytes:
        try:
            with trio.fail_after(_ROOM_S):
                self._held = await self._memory.take(self._peer, self._wanted)
            end = min(self._end, (self._position // self._held + 1) * self._held)
            part, _ = await self._read((self._position, end - 1), self.info.etag)
        except (MediaError, trio.TooSlowError) as error:
            raise BodyLost(f"{self._key} at {self._position} of {self._end}: {error!r}") from error
        self._position = end
        return part.data

    async def _read(self, byte_range: ByteRange, etag: str | None) -> tuple[ObjectPart, ContentRange]:
        """One window and its place, in up to three attempts."""
        last_error = "no answer"
        begun_at = trio.current_time()
        for pause_s in (0.0, *_PAUSES_S):
            try:
                with trio.move_on_at(min(begun_at + _WINDOW_S, trio.current_time() + _ATTEMPT_S)):
                    if pause_s:
                        await trio.sleep(pause_s * random.uniform(0.5, 1.5))
                    part = await self._store.read_part(self._key, byte_range, max_bytes=self._held, if_match=etag)
                    return part, self._shrunk(part)
            except Unavailable as error:
                last_error = repr(error)
        raise Unavailable(Dependency.STORE, last_error)

    def _shrunk(self, part: ObjectPart) -> ContentRange:
        """The place of the part. What it holds of the memory shrinks to what came."""
        spare = self._held - len(part.data)
        if spare:
            self._held -= spare
            self._memory.give(self._peer, spare)
        return part.content_range or ContentRange.of_all(len(part.data))
