"""The native libraries, each loaded in a process that ends afterwards."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import trio

from avion_media.media.native import load_elsewhere, needed_of_wheels
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckStatus
from mediathumbs import LIBRARIES_OF_SYSTEM
from mediathumbs.native import NativeLibrary

Found = dict[str, NativeLibrary]


async def load_libraries() -> Found:
    """Return all libraries, by name; none if the process that loads them dies."""
    return {each.name: each for each in await trio.to_thread.run_sync(load_elsewhere)}


async def _is_there(name: str, found: Found) -> str:
    library = found.get(name, NativeLibrary(name, problem="the process that loads it died"))
    if library.problem:
        raise CheckFailed(library.problem)
    return f"{library.version} ({library.origin})" if library.version else library.origin


def native_checks(formats: Collection[str]) -> list[Check[Found]]:
    """Return the checks of the libraries that these formats need."""
    return [
        Check(Area.NATIVE, f"has {name}", partial(_is_there, name), impact, status)
        for names, impact, status in (
            (needed_of_wheels(formats), "media of some formats fail", CheckStatus.FAILED),
            (LIBRARIES_OF_SYSTEM, "thumbnails take longer", CheckStatus.WARNING),
        )
        for name in names
    ]
