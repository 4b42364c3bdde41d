"""The channel ``drop_deleted``: each message is written once to the stream `HEARD`, from which it is handled.

A few replicas listen (`LISTENERS`), because a message costs Redis so many sends. Messages that are published while no
replica is subscribed are lost, so the gap is measured. A listener that got a message writes it as soon as Redis takes
it, however long that takes. It is lost only if the listener dies before that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import trio

from avion_media.backends.redis import Argument, Channels, Redis
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import scripts
from avion_media.items.deletion.notices import HEARD, MAX_EVENT_BYTES
from avion_media.items.deletion.records import UNDELETES, DeletionRecords
from trio_redis import Backoff

LISTENERS = 3
"""Replicas that listen at a time: if two of them die at once, no message is lost."""
BACKLOG = 1024  # messages that are not written yet; further ones are lost, and reported
_WRITTEN_AT_ONCE = 100
_KNOWN_S = 5.0  # how far apart two listeners may receive the same message

_Message = tuple[bytes, int]  # and its lower bound


class NoticeChannel:
    """One subscription to the channel, and what it received."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._send, self._received = trio.open_memory_channel[_Message](BACKLOG)

    async def listen(self, *, gap: Callable[[float], None], lost: Callable[[], None]) -> None:
        """Receive messages. Never returns.

        After an outage ``gap`` is called with the seconds without a subscription. ``lost`` is called for a message that
        did not fit into the backlog. A cancel keeps what was received.
        """
        disconnected_since: float | None = None
        lower_bound_ms = 0
        pause = Backoff()

        def subscribed(channel: str) -> None:
            nonlocal disconnected_since
            pause.succeeded()
            if disconnected_since is not None and channel == DROP_DELETED:
                gap(trio.current_time() - disconnected_since)
                disconnected_since = None

        def heard(channel: str, message: bytes) -> None:
            nonlocal lower_bound_ms
            if channel == UNDELETES:
                lower_bound_ms = max(lower_bound_ms, int(message) if message.isdigit() else 0)
                return
            try:
                # One byte more than allowed shows that it was too long.
                self._send.send_nowait((message[: MAX_EVENT_BYTES + 1], lower_bound_ms))
            except trio.WouldBlock:
                lost()

        while True:
            try:
                # Read before the subscription, so every message received on it was published later.
                lower_bound_ms = await DeletionRecords(self._redis).now_ms()
                await self._redis.listen(Channels(DROP_DELETED, UNDELETES, heard=heard, subscribed=subscribed))
            except Unavailable:
                disconnected_since = trio.current_time() if disconnected_since is None else disconnected_since
                await trio.sleep(pause.failed())

    async def write(self) -> None:
        """Write what was received to `HEARD`, through outages. Never returns. A cancel loses what is not written."""
        pause = Backoff()
        async for first in self._received:
            batch, size_bytes = [first], len(first[0])
            while size_bytes < MAX_EVENT_BYTES and len(batch) < _WRITTEN_AT_ONCE and self._has_more():
                batch.append(self._received.receive_nowait())
                size_bytes += len(batch[-1][0])
            while True:
                try:
                    await write_heard(self._redis, batch)
                except Unavailable:
                    await trio.sleep(pause.failed())
                else:
                    pause.succeeded()
                    break

    def _has_more(self) -> bool:
        return self._received.statistics().current_buffer_used > 0


async def write_heard(redis: Redis, messages: Sequence[_Message]) -> None:
    """Write messages of the channel to `HEARD`, except those that another listener has written.

    Raises `Unavailable`; after that, and after a cancel, some may be written. It can be repeated.
    """
    args: list[Argument] = [round(_KNOWN_S * 1000)]
    for message, lower_bound_ms in messages:
        args += (sha256(message).hexdigest(), lower_bound_ms, message)
    await redis.run(scripts.WRITE_HEARD, (HEARD,), args)
