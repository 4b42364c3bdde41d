"""The process around the tree: signals, the drain's order, the exit status."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from avion_media.common.telemetry import get_logger
from avion_media.process.early_stop import STOP_SIGNALS
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Drain, Runtime
from avion_media.process.watchdog import Watchdog
from supervisors import Event, EventKind, Supervisor

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
    skip = _PhaseSkipper()

    def received(number: int) -> None:
        _log.info("signal", name=signal.Signals(number).name)
        if runtime.stop_requested.is_set():
            skip.skip()
        runtime.stop_requested.set()

    def stopping(event: Event) -> None:
        if event.path == root.path and event.kind is EventKind.STOPPING:  # for any reason
            watchdog.arm()
            runtime.lifecycle.advance_to(Phase.STOPPING)

    root.observe(stopping)
    try:
        with watchdog.watching(), _on_signal(watchdog.arm, received):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drain_when_asked, root, runtime, skip)
                nursery.start_soon(alongside)
                await root.run()
                nursery.cancel_scope.cancel()
    finally:
        runtime.lifecycle.advance_to(Phase.STOPPING)
        runtime.lifecycle.advance(Phase.DONE)


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


async def _drain_when_asked(root: Supervisor, runtime: Runtime, skip: _PhaseSkipper) -> None:
    await runtime.stop_requested.wait()
    drain = runtime.config.drain
    runtime.lifecycle.advance_to(Phase.LAME_DUCK)
    if runtime.lifecycle.has_reached(Phase.READY):  # a replica that was never ready has no callers
        with skip.skippable():
            await trio.sleep(drain.settle)
    runtime.lifecycle.advance_to(Phase.DRAINING)
    with skip.skippable(), trio.move_on_after(drain.grace):
        async with trio.open_nursery() as draining:
            for node, each in list(runtime.drains.items()):
                draining.start_soon(_drain_one, node, each, drain.grace)
    runtime.lifecycle.advance_to(Phase.STOPPING)
    root.stop()
    with skip.skippable():
        await trio.Event().wait()
    root.stop(grace_s=0)


async def _drain_one(node: str, drain: Drain, grace_s: float) -> None:
    try:
        await drain(grace_s)
    except Exception as error:  # noqa: BLE001 - the other drains continue
        _log.error("drain.failed", node=node, exc_info=error)


class _PhaseSkipper:
    """Lets a repeated signal end the wait of the current phase, or of the next one if none is active."""

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None
        self._ahead = 0

    @contextmanager
    def skippable(self) -> Iterator[None]:
        """Enclose the wait of a phase."""
        with trio.CancelScope() as scope:
            if self._ahead:
                self._ahead -= 1
                scope.cancel()
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None

    def skip(self) -> None:
        """Skip the current phase, because of another signal."""
        if self._scope is None or self._scope.cancel_called:
            self._ahead += 1
        else:
            self._scope.cancel()
