"""The cage: strangers' bytes are decoded only in confined, killable processes, one fresh process per task.

    Trio process ──request + descriptors──▶ forker (single-threaded, codecs loaded) ──fork──▶ confined child

`open_cage` starts the forker; `Cage.call` runs one of our functions in a confined fork, `Cage.execute` an external
program. What confines a child, and what that is worth, is written in `confinement`. The forker and its children never
import Trio: hence the lazy export below, which spares every fork a dozen megabytes of copied page tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avion_media.media.cage.files import read_only
from avion_media.media.cage.terms import CageJobFailed, Completed, JobReport, Limits, Outcome, Usage

if TYPE_CHECKING:
    from avion_media.media.cage.cage import Cage, CageReport, open_cage

__all__ = [
    "Cage",
    "CageJobFailed",
    "CageReport",
    "Completed",
    "JobReport",
    "Limits",
    "Outcome",
    "Usage",
    "open_cage",
    "read_only",
]


def __getattr__(name: str) -> Any:
    if name not in {"Cage", "CageReport", "open_cage"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from avion_media.media.cage import cage  # Trio comes with it

    return getattr(cage, name)
