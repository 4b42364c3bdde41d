"""The sandbox: strangers' bytes are decoded only in confined, killable processes, one fresh process per task.

    Trio process ──request + descriptors──▶ fork server (single-threaded, codecs loaded) ──fork──▶ confined child

`open_sandbox` starts the fork server, `Sandbox.maintain` replaces it from time to time. `Sandbox.call` runs one of our
functions in a confined fork, `Sandbox.execute` an external program. What confines a child, and what that is worth, is
written in `confinement`. The fork server and its children never import Trio: hence the lazy export below, which spares
every fork a dozen megabytes of copied page tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avion_media.media.sandbox.types import (
    Completed,
    JobReport,
    Limits,
    Outcome,
    SandboxJobFailed,
    SandboxReport,
    Usage,
)

if TYPE_CHECKING:
    from avion_media.media.sandbox.sandbox import Renewal, Sandbox, open_sandbox

__all__ = [
    "Completed",
    "JobReport",
    "Limits",
    "Outcome",
    "Renewal",
    "Sandbox",
    "SandboxJobFailed",
    "SandboxReport",
    "Usage",
    "open_sandbox",
]


def __getattr__(name: str) -> Any:
    if name not in {"Renewal", "Sandbox", "open_sandbox"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from avion_media.media.sandbox import sandbox  # Trio comes with it

    return getattr(sandbox, name)
