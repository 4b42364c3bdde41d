"""Signals that come again and again: each skips the wait of one phase."""

from __future__ import annotations

import trio

from avion_media.process.drain import _PhaseSkipper


async def test_a_signal_between_two_phases_skips_the_next(autojump_clock: trio.testing.MockClock) -> None:
    skip = _PhaseSkipper()
    skip.skip()
    skip.skip()
    began = trio.current_time()
    for _ in range(2):
        with skip.skippable():
            await trio.sleep(10)
    assert trio.current_time() == began
    with skip.skippable():
        await trio.sleep(10)
    assert trio.current_time() == began + 10


async def test_two_signals_in_one_moment_skip_two_phases(autojump_clock: trio.testing.MockClock) -> None:
    skip = _PhaseSkipper()
    began = trio.current_time()
    with skip.skippable():
        skip.skip()
        skip.skip()
        await trio.sleep(10)
    with skip.skippable():
        await trio.sleep(10)
    assert trio.current_time() == began
