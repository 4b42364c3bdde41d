"""How late the event loop is while four bombs decode: figures for the report. Held is only that the loop does not work.

On a busy machine a loop is late because its thread waits for a core, so lateness is told and not held. The CPU time
that the loop's own thread takes meanwhile is the service's alone: a blocking call in it would show there.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, suppress

import trio

from avion_media.backends.files import SpooledSource
from avion_media.common.errors import Rejected
from avion_media.common.formats import BY_NAME
from avion_media.media.pipeline import MediaPipeline, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.scrubber import require_format
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub import sniff
from tests.fuzz.session import Finding, Session, Target
from tests.hostile.media import gif_webp_bombs, mp4_bombs, png_bombs
from tests.hostile.media.bomb import Bomb

AT_ONCE = 4
_BOMBS = {  # large ones that are made in no time
    "49-megapixel-canvas-of-small-frames.webp",
    "49-megapixels.png",
    "larger-than-its-pixels.webp",
    "a-million-times.mp4",
}
_PROBE_EVERY_S = 0.005
_MAX_LOOP_SHARE = 0.5  # of one core; measured: below a tenth
_SANDBOX = SandboxConfig(slots=AT_ONCE, budget=4 << 30)


def _run(session: Session) -> None:
    trio.run(_measure, session)


async def _measure(session: Session) -> None:
    bombs = [bomb for group in (gif_webp_bombs, mp4_bombs, png_bombs) for bomb in group.BOMBS if bomb.name in _BOMBS]
    made = [(bomb, bomb.make()) for bomb in bombs]
    late_s: list[float] = []
    async with open_sandbox(
        slots=AT_ONCE, budget_bytes=_SANDBOX.budget, preload=preload_for(frozenset(BY_NAME))
    ) as sandbox:
        pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), _SANDBOX)
        started, used = time.monotonic(), time.thread_time()
        async with trio.open_nursery() as probing:
            probing.start_soon(_probe, late_s)
            async with trio.open_nursery() as decoding:
                for first in range(AT_ONCE):
                    decoding.start_soon(_decode, pipeline, session, made[first:] + made[:first])
            probing.cancel_scope.cancel()
        share = (time.thread_time() - used) / (time.monotonic() - started)
    late_s.sort()
    for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        session.figures[name] = f"{1000 * late_s[int(part * (len(late_s) - 1))]:.1f} ms"
    session.figures["loop"] = f"{100 * share:.0f} % of a core"
    if share > _MAX_LOOP_SHARE:
        raise Finding(f"the event loop worked {share:.0%} of the time while others should")


async def _probe(late_s: list[float]) -> None:
    while True:
        due = trio.current_time() + _PROBE_EVERY_S
        await trio.sleep_until(due)
        late_s.append(trio.current_time() - due)


async def _decode(pipeline: MediaPipeline, session: Session, made: list[tuple[Bomb, bytes]]) -> None:
    """At least once each, and then until the time is up."""
    while True:
        for bomb, content in made:
            with ExitStack() as files:
                spool = files.enter_context(tempfile.TemporaryFile(buffering=0))
                spool.write(content)
                fmt = require_format(sniff(content[:4096], size=len(content)), bomb.family, frozenset(BY_NAME))
                with suppress(Rejected):
                    await pipeline.process(SpooledSource(spool.fileno(), len(content)), fmt, files)
            session.inputs += 1
            if session.time_is_up:
                return


TARGET = Target("event-loop-lag", _run, weight=0.5)
