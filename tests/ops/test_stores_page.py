"""The page about object stores speaks of the checks that `doctor store` makes, in their own words."""

from __future__ import annotations

import ast

from tests.ops.manifests import ROOT

PAGE = (ROOT / "docs/reference/stores.md").read_text()


def test_its_rows_are_checks_of_the_doctor() -> None:
    strings = {
        node.value
        for path in (ROOT / "avion_media/operations/doctor").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    tables = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.count("|") > 8]
    rows = {first for first in tables if first != "`doctor store`" and set(first) != {"-"}}
    assert len(rows) > 10
    assert rows - strings == set()
