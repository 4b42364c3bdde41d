"""What the types of the public names refuse."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

WRONG = Path(__file__).with_name("wrong_uses.py")


def test_wrong_uses_are_rejected(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    expected = {
        (number, match[1])
        for number, line in enumerate(WRONG.read_text().splitlines(), 1)
        if (match := re.search(r"# error: ([a-z-]+)$", line))
    }
    arguments = [
        "--strict",
        "--config-file=",
        "--no-error-summary",
        "--cache-dir",
        str(tmp_path),
        "--python-executable",
        sys.executable,
    ]
    output, problems, _status = api.run([*arguments, str(WRONG)])
    found = {
        (int(match[1]), match[2]) for match in re.finditer(r":(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE)
    }
    assert found == expected, output + problems
