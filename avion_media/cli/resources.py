"""Store and Redis for the commands that use them directly, without the service."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import trio

from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.store import ObjectStore, open_store
from avion_media.cli.output import CommandFailed
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.common.telemetry import silence_logging
from avion_media.config import Config
from avion_media.items.item import Items
from avion_media.process.runtime import items_of

T = TypeVar("T")
_SETTINGS = {
    Dependency.REDIS: "AVION_MEDIA_REDIS__URL",
    Dependency.STORE: "AVION_MEDIA_S3__ENDPOINT_URL and the AWS credentials",
    Dependency.OBJECT: "the bucket's policy and the object store's own health",
}


def unwrapped(run: Callable[[], Awaitable[T]]) -> T:
    """Run with Trio. A `CommandFailed` from a nursery is raised itself, not in a group; Ctrl-C is `KeyboardInterrupt`.

    Nothing is logged, because these exceptions say what is wrong, and programs might read the output.
    """
    silence_logging()
    try:
        return trio.run(_interruptible, run)
    except BaseExceptionGroup as group:
        failure = _first_failure(group)
        if failure is None:
            raise
        raise failure from None


async def _interruptible(run: Callable[[], Awaitable[T]]) -> T:
    """Cancel ``run`` at Ctrl-C. A second Ctrl-C ends the process at once.

    Trio would raise `KeyboardInterrupt` wherever the main task waits. In the middle of `Nursery.start` this becomes an
    internal error of Trio, if the task to be started fails because of it (trio 0.35).
    """
    token = trio.lowlevel.current_trio_token()
    scope = trio.CancelScope()
    with _on_ctrl_c(lambda: token.run_sync_soon(scope.cancel)):
        try:
            with scope:
                ended = await run()
        except Exception:
            if not scope.cancel_called:
                raise
    if scope.cancel_called:  # cancelled: a failure that follows from it is not reported
        raise KeyboardInterrupt
    return ended


@contextmanager
def _on_ctrl_c(interrupt: Callable[[], None]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as for what a shell runs in the background
        yield
        return

    def handle(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        interrupt()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _first_failure(error: BaseException) -> CommandFailed | None:
    if isinstance(error, BaseExceptionGroup):
        return next((found for found in map(_first_failure, error.exceptions) if found), None)
    return error if isinstance(error, CommandFailed) else None


def run_directly(run: Callable[[], Awaitable[T]]) -> T:
    """Run with Trio. An unavailable dependency becomes a `CommandFailed` with one helpful line."""
    try:
        return unwrapped(run)
    except Unavailable as error:
        setting = error.setting or _SETTINGS.get(error.dependency, error.dependency)
        raise CommandFailed(f"{error} (see {setting})") from None


@dataclass(frozen=True, slots=True)
class Resources:
    """The store, in a slot as the service's own code needs it, Redis, and the media items on both."""

    store: ResourceSlot[ObjectStore]
    redis: Redis
    items: Items


@asynccontextmanager
async def open_resources(config: Config) -> AsyncIterator[Resources]:
    """Open both for the duration of the block. If one is unavailable, only its use raises `Unavailable`."""
    slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    async with (
        open_store(config.s3) as store,
        open_redis(config.redis.url, timeout_s=config.redis.timeout, state_url=config.status.redis_url) as redis,
    ):
        with slot.filled(store):
            yield Resources(slot, redis, items_of(config, slot, redis))
