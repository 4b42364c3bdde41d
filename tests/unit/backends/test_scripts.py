"""The scripts that are linked with a prelude."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.resources import files

import pytest


@pytest.mark.parametrize("package", ["avion_media.backends.queue", "avion_media.items.deletion"])
def test_no_script_gives_a_name_of_its_prelude_to_something_else(package: str) -> None:
    """Definitions that come after it would mean the wrong one."""
    names = _defined(import_module(f"{package}.scripts")._PRELUDE)
    for file in (files(package) / "lua").iterdir():
        if not file.name.startswith("_"):
            assert not names & _defined(file.read_text()), file.name


def _defined(lua: str) -> set[str]:
    found = re.findall(r"^local (?:function )?([\w, ]+)", lua, flags=re.MULTILINE)
    return {name for names in found for name in re.findall(r"\w+", names)}
