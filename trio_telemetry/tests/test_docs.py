"""The README's programs run as it says, and pass the type checker. The public names exist, and have docstrings."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trio_telemetry

PACKAGE = Path(trio_telemetry.__file__).parent
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```\n\n```text\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
ALIASES = {"AttributeValue", "Point", "TraceOf"}


def test_each_program_prints_what_stands_below_it(tmp_path: Path) -> None:
    assert len(PROGRAMS) == README.count("```python") == 2
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    for name, program, printed in PROGRAMS:
        file = tmp_path / f"readme_{name}.py"
        file.write_text(program)
        done = subprocess.run(
            [sys.executable, file], check=True, timeout=60, capture_output=True, text=True, env=environ
        )
        assert done.stdout == printed, name
    checker = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "types", *map(str, tmp_path.glob("*.py"))]
    subprocess.run(checker, cwd=tmp_path, check=True, timeout=120)


def test_it_imports_what_it_depends_on_and_nothing_else() -> None:
    ours = {"trio_telemetry", "trio", "structlog", "opentelemetry", "prometheus_client"}
    for source in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, *ours}, source.name


@pytest.mark.parametrize("name", sorted(set(trio_telemetry.__all__) - ALIASES))
def test_a_public_name_exists_and_says_what_it_does(name: str) -> None:
    found = getattr(trio_telemetry, name)
    assert found.__doc__
    for member, value in vars(found).items() if inspect.isclass(found) else ():
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert value.__doc__, member
