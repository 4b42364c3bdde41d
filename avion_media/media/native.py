"""The native libraries that decode, draw and compare: see `mediathumbs.native`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mediathumbs import native
from mediathumbs.native import NativeLibrary

OF_LIKENESS: Final = {"NumPy": ("numpy", "numpy"), "PDQ": ("pdqhash", "pdqhash")}
"""Those that compare pictures with a list (`items/moderation/jobs.py`)."""


def load_elsewhere() -> list[NativeLibrary]:
    """Return all libraries, loaded by a process that ends afterwards; none if it dies of that. Takes half a second."""
    return native.load_elsewhere(OF_LIKENESS)


def needed_of_wheels(formats: Collection[str]) -> list[str]:
    """Return the names of the libraries of wheels without which files of these formats fail."""
    return [*native.needed_of_wheels(formats), *OF_LIKENESS]
