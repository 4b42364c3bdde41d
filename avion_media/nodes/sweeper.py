"""The reconciliation."""

from __future__ import annotations

from avion_media.runtime import Runtime
from supervisors import Child


async def sweeper(runtime: Runtime, child: Child) -> None:
    child.ready()
    await child.stopping.wait()
