"""How scripts are linked with their preludes."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.resources import files

import pytest

from trio_redis.scripts import _linked

PRELUDE = """\
-- first and second are words of this comment
local first, second = 1, 2
local function unused()
  return first
end

local function rest()
  return second -- unused
end
"""


def test_a_definition_is_made_before_the_first_statement_that_needs_it() -> None:
    linked = _linked(PRELUDE, "-- unused\nif first then\n  return 1\nend\nreturn rest() + second\n")
    assert "unused" not in linked.replace("-- unused", "")
    order = [linked.index(each) for each in ("local first", "if first", "local function rest", "return rest")]
    assert order == sorted(order)
    assert linked.count("local first") == 1


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
