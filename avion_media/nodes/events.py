"""``drop_deleted``: a listener on the channel, and a reader of the stream, which has no gap."""

from __future__ import annotations

from functools import partial

import trio

from avion_media.common.errors import Unavailable
from avion_media.common.telemetry import bind_path, get_logger, instruments
from avion_media.items.deletion import DeletionHandler, Notice, NoticeChannel, NoticeStream
from avion_media.nodes import group
from avion_media.process.runtime import Runtime
from supervisors import Child, Supervisor, Worker

_BLOCK_S = 20.0  # idle readers cost Redis next to nothing
_OUTAGE_PAUSE_S = 1.0
_FORGET_READERS_S = 600.0  # each process reads under a name of its own: old names are removed


def events(runtime: Runtime) -> Supervisor:
    """Both readers; either may fail without the other."""
    handler = DeletionHandler(runtime.replay, runtime.config.delete.delay)
    return group(
        "events",
        [
            Worker("channel", partial(_listen, runtime, handler), grace_s=1.0),
            Worker("stream", partial(_read, runtime, handler), grace_s=2.0),
        ],
    )


async def _listen(runtime: Runtime, handler: DeletionHandler, child: Child[None]) -> None:
    """The channel. What it says while nobody is subscribed is lost: the gap is logged."""
    bind_path(child.path)
    log = get_logger()
    redis = runtime.redis
    child.started()

    def gap(seconds: float) -> None:
        runtime.telemetry.count(instruments.DELETIONS_DISCONNECTED, seconds)
        log.warning("deletion.channel_gap", seconds=round(seconds, 3))

    def lost() -> None:
        runtime.telemetry.count(instruments.DELETIONS_DROPPED)
        log.error("deletion.backlog_full")

    with child.until_stopping():
        await NoticeChannel(redis).listen(handler.handle, gap=gap, lost=lost)


async def _read(runtime: Runtime, handler: DeletionHandler, child: Child[None]) -> None:
    """The stream. A notice is acknowledged once its media are marked, their removal is queued, and it is journaled."""
    bind_path(child.path)
    stream = NoticeStream(runtime.redis, claim_after_s=runtime.config.tasks.claim_after)
    child.started()
    forget_again_at = trio.current_time()
    while not child.stopping.is_set():
        try:
            if trio.current_time() >= forget_again_at:
                await stream.remove_idle_consumers(_FORGET_READERS_S)
                forget_again_at = trio.current_time() + _FORGET_READERS_S
            found: list[Notice] = []
            with child.until_stopping():
                found = await stream.take(runtime.consumer, block_s=_BLOCK_S)
            for notice in found:
                await handler.handle(notice)
                await stream.done(notice)
        except Unavailable:
            with trio.move_on_after(_OUTAGE_PAUSE_S):
                await child.stopping.wait()
