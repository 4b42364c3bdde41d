"""The README's programs do what it says. The public names exist, and have docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trio_simulation

TESTS = Path(__file__).parent
PACKAGE = Path(trio_simulation.__file__).parent
README = (TESTS.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_example_is_a_program_of_these_tests() -> None:
    assert BLOCKS[0] == (TESTS / "lost_increment.py").read_text(encoding="utf-8")


def test_the_example_finds_the_lost_increment_and_its_repair_holds() -> None:
    found = _run_example("--seeds", "50")
    assert found.returncode == 1
    assert "CounterLost: 6 increments were acknowledged, the counter is 5" in found.stdout
    assert len(re.findall(r"^    [\d.]+ s: (?:pause|slow) ", found.stdout, re.MULTILINE)) in (1, 2, 3)
    repaired = _run_example("--seeds", "10", "--repaired")
    assert repaired.stdout.startswith("10 seeds, 0 failed")
    assert repaired.returncode == 0


def _run_example(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TESTS / "lost_increment.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_other_examples_print_what_the_readme_says(tmp_path: Path) -> None:
    for block, expected in re.findall(
        r"^```python\n(?=# models)(.*?)^```\n\n```text\n(.*?)^```", README, re.DOTALL | re.MULTILINE
    ):
        (tmp_path / "example.py").write_text(block)
        done = subprocess.run(
            [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == expected


def test_all_examples_are_typed(tmp_path: Path) -> None:
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"example_{number}.py").write_text(block)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "types", *map(str, tmp_path.glob("*.py"))]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)


def test_without_extras_it_imports_trio_only() -> None:
    allowed = {*sys.stdlib_module_names, "trio", ""}
    for source in [*PACKAGE.glob("*.py"), *PACKAGE.glob("network/*.py")]:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert {name.partition(".")[0] for name in names} <= allowed, source.name


@pytest.mark.parametrize("name", trio_simulation.__all__)
def test_a_public_name_exists_and_says_what_it_does(name: str) -> None:
    found = getattr(trio_simulation, name)
    assert found.__doc__
    for member, value in vars(found).items() if isinstance(found, type) else ():
        assert member.startswith("_") or not callable(value) or value.__doc__, member
