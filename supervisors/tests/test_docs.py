"""The examples of the README, the imports of the package, and what its types refuse."""

from __future__ import annotations

import ast
import doctest
import re
import sys
from pathlib import Path

import supervisors

# The sources when the tests lie in them, otherwise the installed package: the tests run on both.
PACKAGE = Path(supervisors.__file__).parent
README = Path(__file__).parents[1] / "README.md"


def test_every_example_of_the_readme() -> None:
    # One session for the whole page; text between the examples becomes empty lines, so that line numbers stay right.
    examples = re.compile(r"```pycon\n(.*?)```", re.DOTALL)
    text, session, end = README.read_text(encoding="utf-8"), "", 0
    for match in examples.finditer(text):
        session += "\n" * text.count("\n", end, match.start(1)) + match[1]
        end = match.end(1)
    test = doctest.DocTestParser().get_doctest(session, {}, README.name, str(README), 0)
    assert len(test.examples) > 20
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.REPORT_UDIFF).run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_it_imports_trio_and_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, "trio", "supervisors"}
    for source in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, source.name


def test_all_public_names_are_listed_and_exist() -> None:
    assert len(supervisors.__all__) == len(set(supervisors.__all__)) == 30
    assert all(hasattr(supervisors, name) for name in supervisors.__all__)
