"""The native libraries, each loaded in a process that ends afterwards."""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from avion_media.media.thumbnails.native import OF_SYSTEM, OF_WHEELS, NativeLibrary, load_elsewhere
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckStatus

Found = dict[str, NativeLibrary]


async def load_libraries() -> Found:
    """Return all libraries, by name; none if the process that loads them dies."""
    return {each.name: each for each in await trio.to_thread.run_sync(load_elsewhere)}


async def _is_there(name: str, found: Found) -> str:
    library = found.get(name, NativeLibrary(name, problem="the process that loads it died"))
    if library.problem:
        raise CheckFailed(library.problem)
    return f"{library.version} ({library.origin})" if library.version else library.origin


NATIVE: Final = [
    Check(Area.NATIVE, f"has {name}", partial(_is_there, name), impact, status)
    for names, impact, status in (
        (OF_WHEELS, "media of some formats fail", CheckStatus.FAILED),
        (OF_SYSTEM, "thumbnails take longer", CheckStatus.WARNING),
    )
    for name in names
]
