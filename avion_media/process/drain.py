"""The process around the tree: signals, the drain's order, the exit status."""

from __future__ import annotations

import math
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import trio

from avion_media.common.concurrency import first_of
from avion_media.process.early_stop import STOP_SIGNALS
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Drain, Runtime
from supervisors import Event, EventKind, Supervisor, Watchdog
from trio_telemetry import get_logger

_log = get_logger(path="process")


async def run_until_stopped(
    root: Supervisor, runtime: Runtime, alongside: Callable[[], Awaitable[None]], *, watchdog: Watchdog
) -> None:
    """Run the tree until a signal (SIGTERM, SIGINT) or `Runtime.stop_requested` drains it, or until it fails.

    ``alongside`` runs beside the tree, and is cancelled at its end. If the tree fails, raises the errors of
    `Supervisor.run`, in a group. Each further signal skips the current phase. ``watchdog`` is armed by the first
    signal, or when the tree stops without one because it gives up.
    """
    runtime.lifecycle.on_change(lambda phase: _log.info("phase", phase=str(phase)))
    again, signals = trio.open_memory_channel[int](math.inf)  # the signals after the first one

    def received(number: int) -> None:
        _log.info("signal", name=signal.Signals(number).name)
        if runtime.stop_requested.is_set():
            again.send_nowait(number)
        runtime.stop_requested.set()

    def stopping(event: Event) -> None:
        if event.path == root.path and event.kind is EventKind.STOPPING:  # for any reason
            watchdog.arm()
            runtime.lifecycle.advance_to(Phase.STOPPING)

    root.observe(stopping)
    try:
        with watchdog.watching(), _on_signal(watchdog.arm, received):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drain_when_asked, root, runtime, signals.receive)
                nursery.start_soon(alongside)
                await root.run()
                nursery.cancel_scope.cancel()
    finally:
        runtime.lifecycle.advance_to(Phase.STOPPING)
        runtime.lifecycle.advance_to(Phase.DONE)


@contextmanager
def _on_signal(at_once: Callable[[], None], received: Callable[[int], None]) -> Iterator[None]:
    """Call ``at_once`` in the signal handler itself, and ``received`` as soon as the event loop runs.

    Not `trio.open_signal_receiver`, because the watchdog must be armed even if the event loop is stuck.
    """
    token = trio.lowlevel.current_trio_token()

    def handle(number: int, _frame: object) -> None:
        at_once()
        token.run_sync_soon(received, number)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _drain_when_asked(root: Supervisor, runtime: Runtime, next_signal: Callable[[], Awaitable[object]]) -> None:
    await runtime.stop_requested.wait()
    runtime.lifecycle.advance_to(Phase.LAME_DUCK)
    if runtime.lifecycle.has_reached(Phase.READY):  # a replica that was never ready has no callers
        await first_of(partial(trio.sleep, runtime.config.drain.settle), next_signal)
    runtime.lifecycle.advance_to(Phase.DRAINING)
    await first_of(partial(_drain_all, runtime), next_signal)
    runtime.lifecycle.advance_to(Phase.STOPPING)
    root.stop()
    await next_signal()
    root.stop(grace_s=0)


async def _drain_all(runtime: Runtime) -> None:
    grace_s = runtime.config.drain.grace
    with trio.move_on_after(grace_s):
        async with trio.open_nursery() as draining:
            for node, each in list(runtime.drains.items()):
                draining.start_soon(_drain_one, node, each, grace_s)


async def _drain_one(node: str, drain: Drain, grace_s: float) -> None:
    try:
        await drain(grace_s)
    except Exception as error:  # noqa: BLE001 - the other drains continue
        _log.error("drain.failed", node=node, exc_info=error)
