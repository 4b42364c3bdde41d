"""How scripts are loaded, and linked with their preludes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trio_redis import load_script
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


def test_a_script_has_the_flags_that_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "with_scripts"
    (folder / "lua").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "lua/one.lua").write_text("return first\n")
    monkeypatch.syspath_prepend(tmp_path)
    script = load_script("with_scripts", "one", PRELUDE, flags="no-writes", takes_process=True)
    assert script.source == "#!lua flags=no-writes\nlocal first, second = 1, 2\nreturn first\n"
    assert (script.name, script.takes_process) == ("one", True)
    other = load_script("with_scripts", "one", name="other")
    assert (other.name, other.source, other.takes_process) == ("other", "#!lua\nreturn first\n", False)
    assert script.sha1 != other.sha1
    del sys.modules["with_scripts"]
