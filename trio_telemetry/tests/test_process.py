"""What a process says of itself."""

from __future__ import annotations

import mmap
import os
import time
from contextlib import aclosing

import pytest
import trio
from trio.testing import MockClock

from trio_telemetry import cpu_seconds, loop_lags, open_files, resident_bytes

_BYTES = 32 << 20


def test_figures_follow_what_the_process_does() -> None:
    cpu, memory, files = sum(cpu_seconds().values()), resident_bytes(), open_files()
    ends_at = time.process_time() + 0.05
    while time.process_time() < ends_at:
        pass
    reader, writer = os.pipe()
    with mmap.mmap(-1, _BYTES) as held:  # not of the heap, which may have room left
        held.write(b"x" * _BYTES)
        try:
            assert sum(cpu_seconds().values()) > cpu
            assert resident_bytes() > memory + _BYTES // 2
            assert open_files() >= files + 2
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
