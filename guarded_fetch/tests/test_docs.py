"""The README's programs print what it says, and pass the type checker. The API's page, imports and docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import guarded_fetch

PACKAGE = Path(guarded_fetch.__file__).parent
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The README's files."""
    for block in _blocks("python"):
        (tmp_path / block.partition("\n")[0].split()[1]).write_text(block)
    return tmp_path


def test_the_program_prints_what_the_page_says(programs: Path) -> None:
    command = [sys.executable, "fetch.py"]
    done = subprocess.run(command, cwd=programs, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == _blocks("text")[0]


def test_the_programs_are_typed(programs: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "types", "fetch.py"]
    subprocess.run(command, cwd=programs, check=True, timeout=120)


def test_it_imports_what_it_depends_on_and_nothing_else() -> None:
    allowed = {*sys.stdlib_module_names, "trio", "h11", "idna", "guarded_fetch"}
    sources = [*PACKAGE.glob("*.py")]
    assert len(sources) > 7
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, source.name


@pytest.mark.parametrize("name", sorted(set(guarded_fetch.__all__) - {"DEFAULT_TIMEOUTS", "PUBLIC_PORTS", "Resolve"}))
def test_a_public_name_exists_and_says_what_it_does(name: str) -> None:
    found = getattr(guarded_fetch, name)
    assert found.__doc__
    for member, value in vars(found).items() if isinstance(found, type) else ():
        assert member.startswith("_") or not callable(value) or value.__doc__, member
