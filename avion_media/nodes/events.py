"""``drop_deleted``: a few replicas listen on the channel, and a few read the streams, which have no gap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio

from avion_media.backends.redis import Lock, LockLost, Seats
from avion_media.common.concurrency import first_of
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import DROP_DELETED
from avion_media.common.telemetry import instruments
from avion_media.items.deletion import LISTENERS, Notice, NoticeChannel, NoticeHandler, NoticeStream
from avion_media.nodes import group
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Runtime
from supervisors import Child, Supervisor, Worker
from trio_redis import run_all
from trio_telemetry import bind_path, get_logger

_BLOCK_S = 20.0  # idle readers cost Redis next to nothing
_OUTAGE_PAUSE_S = 1.0
_FORGET_READERS_S = 600.0  # each process reads under a name of its own: old names are removed
_SEAT_TTL_S = 15.0
_READERS = 3  # each entry wakes all readers that wait


def events(runtime: Runtime) -> Supervisor:
    """Listener and reader; either may fail without the other."""
    return group(
        "events",
        [
            Worker("channel", partial(_listen, runtime), grace_s=1.0),
            Worker("stream", partial(_read, runtime), grace_s=2.0),
        ],
    )


async def _listen(runtime: Runtime, child: Child[None]) -> None:
    """The channel. Messages that are published while no replica is subscribed are lost: the gap is logged."""
    bind_path(child.path)
    log = get_logger()
    channel = NoticeChannel(runtime.redis)
    seats = Seats(runtime.redis, f"{{{DROP_DELETED}}}:listener", LISTENERS, ttl_s=_SEAT_TTL_S)
    child.started()

    def gap(seconds: float) -> None:
        runtime.telemetry.count(instruments.DELETIONS_DISCONNECTED, seconds)
        log.warning("deletion.channel_gap", seconds=round(seconds, 3))

    def lost() -> None:
        runtime.telemetry.count(instruments.DELETIONS_DROPPED)
        log.error("deletion.backlog_full")

    async def listen() -> None:
        while True:
            seat = await seats.wait()
            await first_of(partial(channel.listen, gap=gap, lost=lost), partial(_hold, runtime, seats, seat))

    with child.until_stopping():
        await run_all([channel.write, listen])


async def _hold(runtime: Runtime, seats: Seats, seat: Lock | None) -> None:
    """Keep a seat. Return when all are taken by others, after an outage. A replica that drains gives its seat up, and
    goes on until it is stopped: another one has begun by then."""
    while seat is not None:
        try:
            async with seat.held():
                await runtime.lifecycle.reached(Phase.LAME_DUCK)
            await trio.sleep_forever()
        except LockLost:
            seat = await seats.find()


async def _read(runtime: Runtime, child: Child[None]) -> None:
    """The streams. A notice is acknowledged once its media are marked, their removal is queued, and it is journaled."""
    bind_path(child.path)
    seats = Seats(runtime.redis, f"{{{DROP_DELETED}}}:reader", _READERS, ttl_s=_SEAT_TTL_S)
    child.started()
    while not child.stopping.is_set():
        seat: Lock | None = None
        with child.until_stopping():
            seat = await seats.wait()
        if seat is not None:
            await first_of(partial(_read_until_stopping, runtime, child), partial(_hold, runtime, seats, seat))


async def _read_until_stopping(runtime: Runtime, child: Child[None]) -> None:
    handler = NoticeHandler(runtime.replay, runtime.config.delete.delay)
    stream = NoticeStream(runtime.redis, claim_after_s=runtime.config.tasks.claim_after)
    forget_again_at = trio.current_time()
    found: list[Notice] = []
    while not child.stopping.is_set():
        failed = False
        try:
            if trio.current_time() >= forget_again_at:
                await stream.remove_idle_consumers(_FORGET_READERS_S)
                forget_again_at = trio.current_time() + _FORGET_READERS_S
            if not found:
                with child.until_stopping():
                    found = await stream.take(runtime.consumer, block_s=_BLOCK_S)
            found = await _handle_each(handler, stream, found)
        except Unavailable:
            failed = True
        if found or failed:
            with trio.move_on_after(_OUTAGE_PAUSE_S):
                await child.stopping.wait()


async def _handle_each(handler: NoticeHandler, stream: NoticeStream, found: Sequence[Notice]) -> list[Notice]:
    """Return those that must be handled again: in a cluster, media of the others can be on another server."""
    left = []
    for notice in found:
        try:
            await handler.handle(notice)
            await stream.done(notice)
        except Unavailable:
            left.append(notice)
    return left
