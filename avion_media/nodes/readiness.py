"""The last child to start: when it runs, everything left of it does."""

from __future__ import annotations

import trio

from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Runtime
from supervisors import Child


async def readiness(runtime: Runtime, child: Child[None]) -> None:
    """Makes this replica ready, for as long as it runs itself, once each dependency has answered for the first time."""
    with child.until_stopping():
        waits = bool(runtime.readiness.never_answered)
        if waits:
            child.started()  # the tree is up, however long the first answers take
        await runtime.readiness.first_answers()
        runtime.readiness.set_components_ready(True)
        try:
            runtime.lifecycle.advance_to(Phase.READY)
            if not waits:
                child.started()
            await trio.sleep_forever()
        finally:
            runtime.readiness.set_components_ready(False)
