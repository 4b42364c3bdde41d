"""What everything else stands on: Redis, the object store, the workshop, telemetry's end."""

from __future__ import annotations

import trio

from avion_media.domain.errors import Unavailable
from avion_media.media.cage import JobReport, open_cage
from avion_media.media.jobs import preload_for
from avion_media.media.workshop import Workshop
from avion_media.runtime import Runtime
from avion_media.store import open_store
from avion_media.telemetry import get_logger, instruments
from supervisors import Child

TELEMETRY_FLUSH_S = 3.0
TELEMETRY_STOP_S = TELEMETRY_FLUSH_S + 0.5
_PING_S = 2.0


async def telemetry(runtime: Runtime, child: Child) -> None:
    """Nothing to start; on stop, the last spans and metrics get a bounded chance to leave."""
    child.ready()
    await child.stopping.wait()
    await trio.to_thread.run_sync(runtime.telemetry.shutdown, TELEMETRY_FLUSH_S, abandon_on_cancel=True)


async def redis(runtime: Runtime, child: Child) -> None:
    """The Redis connections. Ready at once: an outage is a state."""
    redis = runtime.redis.get()
    async with redis.opened():
        child.ready()
        with child.until_stopping():
            while True:  # a regular call notices an outage, and its end, also when nobody works
                try:
                    await redis.ping()
                except Unavailable:
                    pass
                await trio.sleep(_PING_S)


async def store(runtime: Runtime, child: Child) -> None:
    """The object store. Ready at once: it looks after its own outages."""
    async with open_store(runtime.config.s3, telemetry=runtime.telemetry) as store:
        with runtime.store.filled(store):
            child.ready()
            await child.stopping.wait()


async def workshop(runtime: Runtime, child: Child) -> None:
    """The cage and the media work in it; fails when the forker dies, so that it is started again."""
    config = runtime.config

    def observe(report: JobReport) -> None:
        runtime.telemetry.record(
            instruments.CAGE_CPU, report.usage.cpu_s, job=report.name.rpartition(":")[2], outcome=str(report.outcome)
        )

    async with open_cage(
        slots=config.cage.slots,
        budget_bytes=config.cage.budget,
        preload=preload_for(config.decoders.enabled()),
        require=config.cage.require,
        observer=observe,
    ) as cage:
        if cage.report.gaps:
            get_logger(path=child.path).warning("cage.gaps", gaps=cage.report.gaps)
        with runtime.workshop.filled(Workshop(cage, config.thumbnails, config.upload, config.cage)):
            child.ready()
            with child.until_stopping():
                await cage.wait_failed()
