"""What a process says of itself."""

from __future__ import annotations

import os
import time
from contextlib import aclosing

import pytest
import trio
from trio.testing import MockClock

from trio_telemetry import cpu_seconds, loop_lags, open_files, resident_bytes


def test_figures_follow_what_the_process_does() -> None:
    cpu, memory, files = sum(cpu_seconds().values()), resident_bytes(), open_files()
    ends_at = time.process_time() + 0.05
    while time.process_time() < ends_at:
        pass
    held = b"x" * (32 << 20)
    reader, writer = os.pipe()
    try:
        assert sum(cpu_seconds().values()) > cpu
        assert resident_bytes() > memory + len(held) // 2
        assert open_files() == files + 2
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_loop_that_was_blocked_is_late(mock_clock: MockClock) -> None:
    lags = []
    async with aclosing(loop_lags()) as found:
        for late_s in (0.0, 3.0):
            async with trio.open_nursery() as nursery:

                async def look() -> None:
                    lags.append(await anext(found))

                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(0.25 + late_s)
    assert lags == pytest.approx([0.0, 3.0])
