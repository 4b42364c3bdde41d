"""The last child to start: when it runs, everything left of it does."""

from __future__ import annotations

from avion_media.lifecycle import Phase
from avion_media.runtime import Runtime
from supervisors import Child


async def readiness(runtime: Runtime, child: Child) -> None:
    """Says that all components run, for as long as they do."""
    runtime.set_components_ready(True)
    try:
        runtime.lifecycle.advance_to(Phase.READY)
        child.ready()
        await child.stopping.wait()
    finally:
        runtime.set_components_ready(False)
