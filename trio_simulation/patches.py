"""Functions replaced in every module that has them, and put back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# Modules that must see the real time: those that wait for real threads and processes, and test runners.
_LEFT_ALONE = (
    *(
        "trio_simulation.clocks",
        "trio_simulation.children",
        "trio_simulation.descriptors",
        "trio_simulation.runner",
        "trio._core",
    ),
    *("threading", "queue", "selectors", "subprocess", "multiprocessing", "concurrent"),
    *("_pytest", "pytest", "pytest_timeout", "pytest_trio", "pluggy", "xdist", "execnet", "coverage", "hypothesis"),
)


class Patches:
    """Replacements of functions and classes."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Any, Any]] = []
        self._attributes: list[tuple[Any, str, Any]] = []

    def everywhere(self, old: Any, new: Any) -> None:
        """Replace it in each module in which a global name stands for it.

        A function that a class or a default argument holds is not found.
        """
        self._pairs.append((old, new))

    def attribute(self, owner: Any, name: str, new: Any) -> None:
        """Replace one attribute, if the owner has it."""
        if hasattr(owner, name):
            self._attributes.append((owner, name, new))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace all for as long as the block runs, also in modules that are imported in it."""
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in self._attributes]
        for owner, name, new in self._attributes:
            setattr(owner, name, new)
        _replace({id(old): new for old, new in self._pairs})
        try:
            yield
        finally:
            _replace({id(new): old for old, new in self._pairs})
            for owner, name, old in before:
                setattr(owner, name, old)


def _replace(new_by_id: dict[int, Any]) -> None:
    for module_name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and not _left_alone(module_name):
            for name, value in list(vars(module).items()):
                if id(value) in new_by_id:
                    setattr(module, name, new_by_id[id(value)])


def _left_alone(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in _LEFT_ALONE)
