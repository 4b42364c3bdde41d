"""The API reference names the reasons that the code returns, and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.ops.manifests import ROOT

PAGE = (ROOT / "docs/reference/api.md").read_text()
API = ROOT / "avion_media/servers/api"
_REASON = re.compile(r"[A-Z0-9_]+")


def reasons(path: Path, functions: set[str]) -> set[str]:
    """The last argument of each call of these functions, where it is a reason."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions and node.args:
            last = node.args[0 if node.func.id == "_info" else -1]
            if isinstance(last, ast.Constant) and _REASON.fullmatch(str(last.value)):
                found.add(str(last.value))
    return found


def test_every_reason_of_a_bad_field_is_there_and_no_other() -> None:
    returned = {reason for path in API.glob("*.py") for reason in reasons(path, {"Violation", "bad_field"})}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 5]
    named = {reason for row in rows for reason in re.findall(r"`([A-Z0-9_]+)`", row.split("|")[4])}
    assert named == returned


def test_every_reason_of_an_error_is_there() -> None:
    returned = reasons(API / "errors.py", {"_info"})
    assert {reason for reason in returned if f"`{reason}`" not in PAGE} == set()
