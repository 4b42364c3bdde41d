"""The sandbox: untrusted bytes are decoded only in sandboxed processes that can be killed, one fresh process per task.

    Trio process ──request + descriptors──▶ fork server (single-threaded, codecs loaded) ──fork──▶ sandboxed child

`open_sandbox` starts the fork server, `Sandbox.maintain` replaces it from time to time. `Sandbox.call` runs a function
of this package in a sandboxed fork, `Sandbox.execute` runs an external program. `confinement` describes the
protections. The fork server and its children never import Trio. This is why the export below is lazy; it saves every
fork the page tables of a dozen megabytes.
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
