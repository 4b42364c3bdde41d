"""The event loop beside all hostile files of at most 1 MiB: `python -m tests.hostile.media.heartbeat`.

Prints the longest gaps between two beats, and the longest steps of the loop's thread in CPU time, which a busy machine
does not lengthen. Ends with an error if a gap is longer than 50 ms.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import Final

import trio

from avion_media.backends.files import SpooledSource
from avion_media.common.errors import Rejected
from avion_media.common.formats import BY_NAME
from avion_media.media.pipeline import MediaPipeline, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.scrubber import require_format
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub import HEAD_BYTES, sniff
from tests.hostile.media.all_bombs import MADE
from tests.hostile.media.bomb import Bomb

_MAX_BYTES: Final = 1 << 20
_MAX_GAP_S: Final = 0.050
_BEAT_S: Final = 0.005
_SHOWN: Final = 5


class Steps(trio.abc.Instrument):
    """Collects the CPU time of the loop's thread between two polls, with the name of what began last."""

    def __init__(self) -> None:
        self.longest: list[tuple[float, str]] = []
        self.began = ""
        self._since = math.inf  # until the first step begins

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Begin to count."""
        self._since = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Keep the step if it is among the longest."""
        self.longest = sorted([*self.longest, (time.thread_time() - self._since, self.began)])[-_SHOWN:]


async def _beat(gaps: list[tuple[float, str]], steps: Steps) -> None:
    last = time.perf_counter()
    while True:
        await trio.sleep(_BEAT_S)
        now = time.perf_counter()
        gaps.append((now - last - _BEAT_S, steps.began))
        last = now


async def _process(pipeline: MediaPipeline, bomb: Bomb, data: bytes, steps: Steps) -> None:
    steps.began = bomb.name
    with ExitStack() as files:
        spool = files.enter_context(tempfile.TemporaryFile(buffering=0))
        spool.write(data)
        source = SpooledSource(spool.fileno(), len(data))
        try:
            fmt = require_format(sniff(os.pread(source.fd, HEAD_BYTES, 0), size=len(data)), None, frozenset(BY_NAME))
            await pipeline.process(source, fmt, files)
        except Rejected:
            return


async def _run() -> float:
    config = SandboxConfig()
    steps, gaps = Steps(), list[tuple[float, str]]()
    bombs = [(bomb, data) for bomb in MADE if len(data := bomb.make()) <= _MAX_BYTES]
    async with (
        open_sandbox(budget_bytes=config.budget, preload=preload_for(frozenset(BY_NAME))) as sandbox,
        trio.open_nursery() as nursery,
    ):
        pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), config)
        gc.collect()
        gc.freeze()  # as the service does
        nursery.start_soon(_beat, gaps, steps)
        trio.lowlevel.add_instrument(steps)
        for bomb, data in bombs:
            await _process(pipeline, bomb, data, steps)
        trio.lowlevel.remove_instrument(steps)
        nursery.cancel_scope.cancel()
    for title, values in (("gap", sorted(gaps)[-_SHOWN:]), ("CPU of a step", steps.longest)):
        for value_s, name in reversed(values):
            print(f"{title:14} {1000 * value_s:7.1f} ms   {name}")
    print(f"{len(bombs)} files of at most 1 MiB, load {os.getloadavg()[0]:.1f}")
    return max(gaps)[0]


if __name__ == "__main__":
    sys.exit(trio.run(_run) > _MAX_GAP_S)
