"""Every module here has one ``TARGET``; it is found by being here."""

from __future__ import annotations

import importlib
import pkgutil

from tests.fuzz.session import Target


def all_targets() -> dict[str, Target]:
    """All targets by name."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    targets = [module.TARGET for module in modules]
    return {target.name: target for target in targets}
