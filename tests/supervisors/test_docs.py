from __future__ import annotations

import ast
import doctest
import re
import sys
from pathlib import Path

HOUSE = Path(__file__).parents[2]


def test_every_example_of_the_documentation() -> None:
    page = HOUSE / "docs" / "supervisors.md"
    # One session for the whole page; what is no example becomes empty lines, so that line numbers stay right.
    examples = re.compile(r"```pycon\n(.*?)```", re.DOTALL)
    text, session, end = page.read_text(encoding="utf-8"), "", 0
    for match in examples.finditer(text):
        session += "\n" * text.count("\n", end, match.start(1)) + match[1]
        end = match.end(1)
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    assert len(test.examples) > 20
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.REPORT_UDIFF).run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_it_imports_trio_and_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, "trio", "supervisors"}
    for source in (HOUSE / "supervisors").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, source.name
