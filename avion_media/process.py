"""The process around the tree: signals, the drain's order, the exit status."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import trio

from avion_media.lifecycle import Phase
from avion_media.runtime import Runtime
from avion_media.telemetry import get_logger
from supervisors import Supervisor

_log = get_logger(path="process")


async def run_until_stopped(root: Supervisor, runtime: Runtime) -> None:
    """Run the tree until a signal (SIGTERM, SIGINT) drains it, or it fails.

    Raises what `Supervisor.run` raises when it fails. A second signal skips the phase under way, and so on.
    """
    runtime.lifecycle.on_change(lambda phase: _log.info("phase", phase=str(phase)))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_on_signal, root, runtime, signals)
            await root.run()
            nursery.cancel_scope.cancel()
    runtime.lifecycle.advance_to(Phase.STOPPING)
    runtime.lifecycle.advance(Phase.DONE)


async def _drain_on_signal(root: Supervisor, runtime: Runtime, signals: AsyncIterator[int]) -> None:
    skip = _Skip()
    async with trio.open_nursery() as nursery:
        first = signal.Signals(await anext(signals))
        _log.info("signal", name=first.name)
        nursery.start_soon(skip.on_each, signals)
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

    async def on_each(self, signals: AsyncIterator[int]) -> None:
        """Cancel the present phase at every signal."""
        async for number in signals:
            _log.warning("signal", name=signal.Signals(number).name, effect="skips ahead")
            self._scope.cancel()
