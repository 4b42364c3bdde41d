"""The process around the tree: signals, the drain's order, the exit status."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from avion_media.lifecycle import Phase
from avion_media.runtime import Runtime
from avion_media.telemetry import get_logger
from supervisors import Supervisor

_log = get_logger(path="process")


async def run_until_stopped(root: Supervisor, runtime: Runtime, alongside: Callable[[], Awaitable[None]]) -> None:
    """Run the tree until a signal (SIGTERM, SIGINT) or `Runtime.request_stop` drains it, or it fails.

    ``alongside`` runs beside the tree and is cancelled with its end. Raises what `Supervisor.run` raises when it
    fails, in a group. A second signal skips the phase under way, and so on.
    """
    runtime.lifecycle.on_change(lambda phase: _log.info("phase", phase=str(phase)))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            skip = _Skip()
            nursery.start_soon(_watch_signals, runtime, signals, skip)
            nursery.start_soon(_drain_when_asked, root, runtime, skip)
            nursery.start_soon(alongside)
            await root.run()
            nursery.cancel_scope.cancel()
    runtime.lifecycle.advance_to(Phase.STOPPING)
    runtime.lifecycle.advance(Phase.DONE)


async def _watch_signals(runtime: Runtime, signals: AsyncIterator[int], skip: _Skip) -> None:
    """The first signal asks for the stop, each further one skips the phase under way."""
    async for number in signals:
        _log.info("signal", name=signal.Signals(number).name)
        if runtime.stop_requested.is_set():
            skip.skip()
        runtime.stop_requested.set()


async def _drain_when_asked(root: Supervisor, runtime: Runtime, skip: _Skip) -> None:
    await runtime.stop_requested.wait()
    drain = runtime.config.drain
    runtime.lifecycle.advance_to(Phase.LAME_DUCK)
    if runtime.components_ready:  # nobody was sent here yet during the start
        with skip.skippable():
            await trio.sleep(drain.settle)
    runtime.lifecycle.advance_to(Phase.DRAINING)
    with skip.skippable(), trio.move_on_after(drain.grace):
        async with trio.open_nursery() as draining:
            for each in list(runtime.drains.values()):
                draining.start_soon(each, drain.grace)
    runtime.lifecycle.advance_to(Phase.STOPPING)
    root.stop()
    with skip.skippable():
        await trio.sleep_forever()
    root.abort()


class _Skip:
    """Lets a repeated signal end the wait of the phase under way."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()

    def skippable(self) -> trio.CancelScope:
        """A scope for the phase that begins now."""
        self._scope = trio.CancelScope()
        return self._scope

    def skip(self) -> None:
        """End the wait of the present phase."""
        self._scope.cancel()
